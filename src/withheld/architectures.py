"""Importing this tells transformers of the networks that are ours, so that `AutoModel` opens what they learned.

    import withheld.architectures
    from transformers import AutoModel

    model = AutoModel.from_pretrained("runs/first/encoder")

Most encoders are transformers' own and need nothing of this. ONNX files (`withheld export RUN --to onnx`) never do.
"""

from withheld.networks.convnet import ConvNetConfig
from withheld.networks.elmo import ElmoConfig
from withheld.networks.lstm import LstmConfig
from withheld.networks.patch_dictionary import PatchDictionaryConfig
from withheld.networks.recognition import RecognitionConfig
from withheld.networks.sentence import SentenceConfig
from withheld.networks.vq_vae2 import VqConfig
from withheld.networks.word_vectors import WordVectorsConfig

OURS = {
    kind.model_type: kind
    for kind in (
        ConvNetConfig, ElmoConfig, LstmConfig, PatchDictionaryConfig, RecognitionConfig, SentenceConfig, VqConfig,
        WordVectorsConfig,
    )
}  # fmt: skip
"""Their configs, by the model_type that stands in config.json."""

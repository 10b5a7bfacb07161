"""Networks: backbones come from transformers, what no library has is here."""

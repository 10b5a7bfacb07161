"""Detection on PASCAL VOC folders: what image pretext tasks were judged by, in an R-CNN pipeline."""

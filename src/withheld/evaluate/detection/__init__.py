"""Detection on images with boxes: what image pretext tasks were judged by, in an R-CNN pipeline."""

"""The data path: cards, labels, pairs of files, images, augmentation, batches."""

"""What methods that optimise pixels share: real batches, Siamese augmentation, distances, the images, the loop."""

"""MVL and LoRS: pairs of images and texts on which two branches follow the paths of training on real pairs."""

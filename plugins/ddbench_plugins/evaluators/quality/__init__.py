"""What distilled images are like beside real ones, in the features of a fixed network; nothing is trained on them."""

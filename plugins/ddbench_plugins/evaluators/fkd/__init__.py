"""The FKD protocol: labels of augmented views, stored or online."""

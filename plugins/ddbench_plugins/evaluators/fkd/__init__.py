"""The FKD protocol: labels of augmented views, stored or on line."""

"""Reading distilled sets as the released code of others writes them; ddbench.importing makes ordinary sets of them."""

#: What an imported set's record says of its origin: an option of its method, and a table of its ``extra``.
IMPORTED = "imported"

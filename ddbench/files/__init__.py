"""Reading and writing files with care: whole or not at all, locked, checked, explained.

What is named here is for plugins, too: files that come from elsewhere are looked at before anything reads them.
"""

from ddbench.files.reading import MOST_TEXT as MOST_TEXT
from ddbench.files.reading import check_archive as check_archive
from ddbench.files.reading import check_file as check_file
from ddbench.files.reading import damaged_files as damaged_files
from ddbench.files.reading import first_line as first_line
from ddbench.files.reading import is_text as is_text
from ddbench.files.reading import read_bytes as read_bytes
from ddbench.files.reading import read_text as read_text
from ddbench.files.reading import why as why
from ddbench.files.writing import home as home

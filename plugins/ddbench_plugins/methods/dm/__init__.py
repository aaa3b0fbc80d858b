"""DM: distribution matching (Zhao and Bilen, WACV 2023)."""

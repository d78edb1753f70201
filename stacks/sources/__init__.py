"""Sources of the functions that the compositions deploy. Each runs as it stands here."""

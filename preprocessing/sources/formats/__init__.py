"""Longtail: the forms in which tables come, one file each; `registry` names them."""

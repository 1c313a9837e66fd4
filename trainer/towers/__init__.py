"""Query and item tower, their layers, and the recall model around them."""

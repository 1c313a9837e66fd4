"""Longtail: the rankers that a model has to beat; `registry` names them."""

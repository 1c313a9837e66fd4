"""What names of columns say: words of a role in many spellings (`user_id`, `userId`, `CustomerID`, `visitorid`)."""

from __future__ import annotations

import re


def _listed(words: str) -> list[str]:
    return words.split()


USERS = _listed(
    "user customer household member visitor client shopper buyer purchaser reviewer consumer "
    "subscriber person guest player listener reader viewer student learner patient traveler "
    "traveller cust"
)
"""Who acts."""
USERS_OTHERWISE = _listed("account session device cookie")
"""What stands for a user where nothing else does."""
ITEMS = _listed(
    "item product article sku movie film track song book isbn asin video news content recipe game "
    "app anime listing offer business restaurant hotel course job post stock upc ean gtin poi "
    "venue place photo podcast episode document"
)
"""What is acted upon."""
ITEMS_OTHERWISE = _listed("artist album author brand ad creative title")
TIMES = _listed("timestamp datetime time date when ts created occurred")
ORDERS = _listed("position order sequence seq step rank")
"""Columns that count the events of a user."""
REWARDS = _listed("rating score stars star overall feedback like liked reward grade preference")
EVENTS = _listed("event action behavior behaviour interaction activity")
KEYS = _listed("id key code no nr num number uuid guid hash sk pk index")
CODES = _listed(
    "id code key brand category cat class type group department dept store artist author genre "
    "tag zip zipcode postcode manufacturer publisher segment cluster occupation gender country "
    "region city"
)
"""Words of columns whose whole numbers are names of something, not amounts."""
TITLES = _listed("title name label description headline product_name")
_GLUED = tuple(sorted(USERS + ITEMS + USERS_OTHERWISE, key=len, reverse=True))


def plain_name(name: str) -> str:
    """Without the type that some files write behind a colon (`user_id:token`)."""
    return re.sub(r":(token|float|token_seq|float_seq)$", "", name)


def words(name: str) -> list[str]:
    """The words of a name in lower case, whatever holds them together."""
    spaced = re.sub(r"([a-z0-9])([A-Z])|([A-Z]+)([A-Z][a-z])", r"\1\3 \2\4", plain_name(name))
    found = [part.lower() for part in re.split(r"[^A-Za-z0-9]+", spaced) if part]
    apart: list[str] = []
    for word in found:
        match = re.fullmatch(rf"({'|'.join(_GLUED)})s?(id|key|code|no)", word)
        apart += list(match.groups()) if match else [_singular(word)]
    if apart in (["u", "id"], ["i", "id"]):
        return [{"u": "user", "i": "item"}[apart[0]], "id"]
    return _short(apart)


def score(name: str, known: list[str]) -> int:
    """How well a name says one of the known words: 3 alone or with `id`, 2 with other words and `id`, else 1."""
    parts = words(name)
    said = [part for part in parts if part in known]
    if not said:
        return 0
    others = [part for part in parts if part not in known and part not in KEYS]
    if not others:
        return 3
    return 2 if set(parts) & set(KEYS) else 1


def feature_name(name: str) -> str:
    """A name that the feature list takes: letters, figures and `_`."""
    found = re.sub(r"[^A-Za-z0-9]+", "_", plain_name(name)).strip("_").lower()
    return found if found[:1].isalpha() else f"column_{found}".rstrip("_")


def looks_like_a_name(text: str) -> bool:
    """Whether a value of a first line may be a column's name: letters first, short, no number."""
    return re.match(r"^\s*[^\W\d_][\w .:()/&%-]{0,60}\s*$|^_\w{0,60}$", text) is not None


def _singular(word: str) -> str:
    return word[:-1] if len(word) > 3 and word.endswith("s") and word[:-1] in _GLUED else word


def _short(parts: list[str]) -> list[str]:
    known = {"uid": ["user", "id"], "iid": ["item", "id"], "pid": ["product", "id"]}
    return [word for part in parts for word in known.get(part, [part])]

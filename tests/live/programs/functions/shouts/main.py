"""A function with a dependency and a package of its own."""

import inflection
from words.marks import mark


def handler(context):
    return {"words": mark(inflection.pluralize(context.json["word"]))}

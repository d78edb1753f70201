"""The function for functions-framework if the user's function has the book's signature."""

import flask

from function_runtime import source
from function_runtime.context import Context
from function_runtime.decorator import Decorator
from function_runtime.settings import Settings

_settings = Settings.load()
if _settings.upstream:
    _answer = Decorator(_settings).answer
else:
    _answer = source.function(source.load(_settings.source), _settings.target)


def entry(request: flask.Request) -> flask.typing.ResponseReturnValue:
    """Call the function; the result None is a 204."""
    result = _answer(Context(request))
    return ("", 204) if result is None else result

"""Every component, its arguments, and the values that pass between components.

`__init__.pyi` lists them. They are loaded when they are first used: a program pays for those that it
deploys, and what only one of them needs (such as the Docker SDK) need not be there for the others.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

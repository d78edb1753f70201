"""Every component, its arguments, and the values that pass between components.

`__init__.pyi` lists them. They are loaded lazily, when they are first used: a program imports only
those that it deploys, and a dependency of one of them (such as the Docker SDK) need not be installed
for the others.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

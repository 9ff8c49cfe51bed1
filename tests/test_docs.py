"""Every public parameter is described, and README can be followed to the letter."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest

import permata_auth
from permata_auth.schemes.base import Scheme
from permata_auth.stores.base import SealedStore, TokenStore
from permata_auth.stores.failures import FailureStore

#: A method of a store or a scheme may leave its parameters to the protocol that it implements.
PROTOCOLS = (TokenStore, FailureStore, SealedStore, Scheme)
#: The public names of the sandbox are those that the package exports.
INNER = "permata_auth.sandbox."


def public_modules() -> Iterator[ModuleType]:
    """Yield the modules without an underscore in their path that can be imported here."""
    for module in pkgutil.walk_packages(permata_auth.__path__, "permata_auth."):
        is_command = ".management" in module.name or module.name.startswith("permata_auth.cli")
        if "._" in module.name or is_command or module.name.startswith(INNER):
            continue
        try:
            yield importlib.import_module(module.name)
        except Exception as error:  # an extra that is missing, or Django without a project
            if not isinstance(error, ImportError) and "django" not in module.name:
                raise


def public_callables() -> dict[str, tuple[Any, str]]:
    """Return each public function, constructor and method, with all that documents it."""
    found = {}
    for module in public_modules():
        for name, value in vars(module).items():
            is_defined = getattr(value, "__module__", None) == module.__name__
            is_exported = module is not permata_auth and name in getattr(module, "__all__", ())
            if name.startswith("_") or not (is_defined or is_exported):
                continue
            place = f"{module.__name__}.{name}"
            if inspect.isclass(value):
                if "__init__" in vars(value) and not getattr(value, "_is_protocol", False):
                    found[place] = value.__init__, documentation(value, "__init__")
                for member, method in vars(value).items():
                    function = getattr(method, "__func__", method)
                    if inspect.isfunction(function) and not member.startswith("_"):
                        found[f"{place}.{member}"] = function, documentation(value, member)
            elif inspect.isfunction(value) and not hasattr(value, "_pytestfixturefunction"):
                found[place] = value, inspect.getdoc(value) or ""
    return found


def documentation(owner: type, method: str) -> str:
    texts = [each.__doc__ for each in owner.__mro__]
    texts += [getattr(getattr(each, method, None), "__doc__", "") for each in (owner, *PROTOCOLS)]
    return "\n".join(filter(None, texts))


CALLABLES = public_callables()


def test_the_public_surface_is_among_the_callables():
    names = {name.rpartition(".")[2] for name in CALLABLES}
    assert names >= set(permata_auth.__all__) - {"TokenStore"} - {
        name for name in permata_auth.__all__ if name.endswith("Error")
    }


@pytest.mark.parametrize("name", sorted(CALLABLES))
def test_every_public_parameter_is_described(name):
    function, text = CALLABLES[name]
    parameters = {each for each in inspect.signature(function).parameters if each[0] != "_"}
    words = {"self", "cls", *re.findall(r"\w+", text)}
    assert parameters - words == set()

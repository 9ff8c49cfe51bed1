"""Every public parameter is described, and README can be followed to the letter."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import attrs
import pytest

import permata_auth
from permata_auth import ConfigurationError, SnapCredentials, Transport
from permata_auth.schemes.base import Scheme
from permata_auth.schemes.classic import PermataCredentials
from permata_auth.snap_inbound import SnapReceiver
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


def test_every_option_of_every_command_has_a_help():
    cli = pytest.importorskip("permata_auth.cli").cli
    silent, groups = [], [cli]
    for group in groups:
        for command in group.commands.values():
            groups += [command] if hasattr(command, "commands") else []
            options = [each for each in command.params if each.param_type_name == "option"]
            silent += [f"{command.name} {each.name}" for each in options if not each.help]
    assert len(groups) == 2
    assert silent == []


ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_readme_is_short_enough_to_be_read():
    assert len(README.splitlines()) <= 180


def test_the_python_blocks_of_the_readme_run(bank, monkeypatch):
    for name, value in bank.environment().items():
        monkeypatch.setenv(name, value)
    names: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL):
        exec(block.replace("https://bank.invalid", bank.url), names)  # noqa: S102 - our own
    names["handler"].shutdown()
    names["session"].close()
    assert names["response"].json()["StatusCode"] == "00"
    assert names["token"] in names["response"].request.headers["Authorization"]
    assert bank.logins == 1


def test_the_readme_has_its_two_commands_each_on_a_line_of_its_own():
    commands = re.findall(r"^    (python3 -m venv .*)$", README, re.MULTILINE)
    assert [command.rpartition("/")[2] for command in commands] == ["permata-auth demo", "pytest"]


def test_the_readme_has_no_link_that_is_dead_outside_of_the_repository():
    targets = re.findall(r"\]\(([^)]*)\)|(?:src|href)=\"([^\"]*)\"", README)
    assert [each for pair in targets for each in pair if each and "://" not in each] == []


def test_the_settings_of_the_readme_are_all_there_are():
    sources = [path.read_text(encoding="utf-8") for path in ROOT.glob("permata_auth/**/*.py")]
    read = {name for text in sources for name in re.findall(r"\"(PERMATA_[A-Z_]+[A-Z])\"", text)}
    fields = [field.name for field in attrs.fields(PermataCredentials)]
    fields += inspect.signature(Transport).parameters
    made = {f"PERMATA_{name.upper()}" for name in (*fields, "token_store", "secrets_dir")}
    # A setting of Django's alone, and the name of the dict that holds its settings.
    there = (read | made) - {"PERMATA_ON_EVENT", "PERMATA_AUTH"}
    assert documented_settings() == {name for name in there if not is_of_snap(name)}


def test_the_readme_names_the_settings_of_snap_that_are_needed_and_none_that_is_not_there():
    prefix = "PERMATA_SNAP_"
    calls = {prefix + field.name.upper() for field in attrs.fields(SnapCredentials)}
    text = inspect.getdoc(SnapReceiver.from_env)
    inbound = {prefix + name for name in re.findall(r"\b(?:INBOUND|BANK)_[A-Z_]+", text)}
    documented = documented_settings(snap=True)
    assert {name.removesuffix("_FILE") for name in documented} <= calls | inbound
    for make in (SnapCredentials.from_env, SnapReceiver.from_env):
        with pytest.raises(ConfigurationError) as caught:
            make({})
        missing = set(re.findall(rf"{prefix}[A-Z_]+", str(caught.value)))
        assert missing <= documented | {name.removesuffix("_FILE") for name in documented}


def documented_settings(*, snap: bool = False) -> set[str]:
    rows = re.findall(r"^\| (`PERMATA_.*?) \|", README, re.MULTILINE)
    names = {name for row in rows for name in re.findall(r"PERMATA_[A-Z_]+", row)}
    return {name for name in names if is_of_snap(name) == snap}


def is_of_snap(name: str) -> bool:
    return name.startswith("PERMATA_SNAP_")


def test_the_readme_names_all_examples_and_no_other():
    named = {path.rstrip("/") for path in re.findall(r"`(examples/[^`]*)`", README)}
    found = {f"examples/{path.name}" for path in (ROOT / "examples").iterdir()}
    assert named == found - {"examples/__pycache__"}


def test_the_map_of_the_package_names_rooms_that_exist():
    rows = re.findall(r"^\| (`.*?`) \| ", README[README.index("| room |") :], re.MULTILINE)
    rooms = [name for row in rows for name in re.findall(r"`([^`]+)`", row)]
    assert len(rooms) > 15
    assert [name for name in rooms if not (ROOT / "permata_auth" / name).exists()] == []

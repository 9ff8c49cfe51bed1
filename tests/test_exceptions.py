from __future__ import annotations

import copy
import inspect
import pickle
import re

import pytest

from permata_auth import exceptions
from permata_auth.exceptions import (
    CallbackStatusError,
    ConfigurationError,
    PermataAuthError,
    RequestTimeoutError,
    TokenEndpointError,
    TransportError,
    WebhookPayloadError,
)

CLASSES = [
    value
    for value in vars(exceptions).values()
    if inspect.isclass(value) and value.__module__ == exceptions.__name__
]
RETRYABLE = {
    "TransportError",
    "RequestTimeoutError",
    "TokenEndpointUnavailableError",
    "TokenStoreError",
}


def drawn_tree():
    """Read the module's docstring: {class: [its bases, the drawn parent first]}."""
    parents, tree = [], {}
    for line in inspect.getdoc(exceptions).splitlines():
        found = re.match(r"([│├└─ ]*)(\w+Error)\b(?: \((\w+)\))?", line)
        if not found:
            continue
        depth = len(found[1]) // 4 - 1
        parents[depth:] = [found[2]]
        tree[found[2]] = [parents[depth - 1] if depth else "Exception", *filter(None, [found[3]])]
    return tree


def test_the_tree_is_the_one_that_the_docstring_draws():
    assert drawn_tree() == {
        each.__name__: [base.__name__ for base in each.__bases__] for each in CLASSES
    }


def test_the_tree_is_all_there():
    assert len(CLASSES) == 19
    assert all(issubclass(each, PermataAuthError) for each in CLASSES)


@pytest.mark.parametrize("error", CLASSES)
def test_names_end_in_error_and_docstrings_say_who_can_help(error):
    assert error.__name__.endswith("Error")
    assert re.search(r"operator|wait|bank|caller|sender|catch|message says", error.__doc__)


@pytest.mark.parametrize("error", CLASSES)
def test_retryable_is_known_before_an_error_is_made(error):
    assert error.retryable is (error.__name__ in RETRYABLE)
    assert error("example").retryable is error.retryable


@pytest.mark.parametrize("error", CLASSES)
def test_the_message_comes_first_and_alone_suffices(error):
    made = error("example message")
    assert str(made) == "example message"
    assert made.args == ("example message",)


@pytest.mark.parametrize("error", CLASSES)
def test_everything_but_the_message_goes_by_name_and_has_a_default(error):
    signature = inspect.signature(error.__init__)
    for name, parameter in signature.parameters.items():
        if name not in ("self", "message", "args", "kwargs"):
            assert parameter.kind is parameter.KEYWORD_ONLY
            assert parameter.default is not parameter.empty
            assert getattr(error("example"), name) == parameter.default


def filled(error):
    """Make an error with a value for each of its attributes."""
    samples = {
        "retry_after": 2.5,
        "status_code": 418,
        "error": "invalid_request",
        "error_description": "example words",
        "retryable": True,
    }
    names = [name for name in inspect.signature(error.__init__).parameters if name in samples]
    return error("example message", **{name: samples[name] for name in names})


@pytest.mark.parametrize("error", CLASSES)
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_errors_survive_pickle_with_their_attributes(error, protocol):
    made = filled(error)
    again = pickle.loads(pickle.dumps(made, protocol))
    assert type(again) is error
    assert (str(again), again.args, vars(again)) == ("example message", made.args, vars(made))
    assert again.retryable is made.retryable


@pytest.mark.parametrize("error", CLASSES)
@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy])
def test_errors_survive_copy_with_their_attributes(error, duplicate):
    made = filled(error)
    made.__cause__ = ValueError("example cause")
    again = duplicate(made)
    assert again is not made
    assert type(again) is error
    assert (str(again), again.args, vars(again)) == ("example message", made.args, vars(made))
    assert again.__cause__ is again.__traceback__ is None


@pytest.mark.parametrize("error", CLASSES)
@pytest.mark.parametrize("again", [copy.copy, lambda made: pickle.loads(pickle.dumps(made))])
def test_every_error_may_say_how_long_to_wait(error, again):
    assert error.retry_after is None
    made = error("example")
    assert made.retry_after is None
    made.retry_after = 7.5
    assert again(made).retry_after == 7.5
    assert error.retry_after is None


def test_attributes_given_by_name_are_kept():
    error = TokenEndpointError(
        "example", status_code=401, error="invalid_client", error_description="x", retry_after=3.0
    )
    assert vars(error) == {
        "status_code": 401,
        "error": "invalid_client",
        "error_description": "x",
        "retry_after": 3.0,
    }
    assert TransportError("example", retry_after=1.0).retry_after == 1.0
    assert WebhookPayloadError("example", status_code=413).status_code == 413
    assert WebhookPayloadError("example").status_code == 400
    assert CallbackStatusError("example", retryable=True).retryable is True


@pytest.mark.parametrize(
    ("error", "builtin"), [(ConfigurationError, ValueError), (RequestTimeoutError, TimeoutError)]
)
def test_the_builtin_that_means_the_same_catches_it(error, builtin):
    with pytest.raises(builtin):
        raise error("example")

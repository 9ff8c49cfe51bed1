from __future__ import annotations

import pytest
from support.scripts import run

_NEEDS = [
    ("permata_auth.integrations.flask", "flask", "permata-auth[flask]"),
    ("permata_auth.integrations.django", "django", "permata-auth[django]"),
    ("permata_auth.integrations.celery", "celery", "permata-auth[celery]"),
    ("permata_auth.integrations.prometheus", "prometheus_client", "permata-auth[prometheus]"),
    ("permata_auth.integrations.django.cache", "cryptography", "permata-auth[django]"),
]


@pytest.mark.parametrize(("module", "package", "extra"), _NEEDS)
def test_without_its_package_an_integration_says_what_to_install(module, package, extra):
    ran = run(
        f"""
        import sys

        sys.modules["{package}"] = None  # as if it were not installed
        try:
            import {module}
        except ImportError as error:
            print(error)
        """
    )

    assert (ran.status, ran.err) == (0, "")
    assert ran.out.count("\n") == 1
    assert f"pip install '{extra}'" in ran.out


@pytest.mark.parametrize("name", ["flask", "django", "celery", "prometheus"])
def test_integrations_never_load_each_other(name):
    ran = run(
        f"""
        import sys

        import permata_auth.integrations

        assert not {{"flask", "django", "celery", "prometheus_client", "redis"}} & set(sys.modules)

        import permata_auth.integrations.{name}

        names = [each for each in sys.modules if each.startswith("permata_auth.integrations.")]
        rooms = {{each.split(".")[2] for each in names}}
        print({{each for each in rooms if not each.startswith("_")}})  # those that they share
        """
    )

    assert (ran.status, ran.err) == (0, "")
    assert ran.out.strip() == str({name})


def test_importing_all_integrations_starts_no_thread():
    ran = run(
        """
        import threading

        import permata_auth.integrations.celery
        import permata_auth.integrations.django.cache
        import permata_auth.integrations.flask
        import permata_auth.integrations.prometheus
        import permata_auth.testing

        assert threading.active_count() == 1, threading.enumerate()
        """
    )

    assert (ran.status, ran.err) == (0, "")

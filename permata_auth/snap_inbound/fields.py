"""The members of a body that services need, each right or answered as the standard says."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import attrs

from .answers import bad_format, missing
from .virtual_accounts import SnapAmount

_AMOUNT = re.compile(r"[0-9]{1,16}\.[0-9]{2}")
_CURRENCY = re.compile(r"[A-Z]{3}")
_NUMBER = re.compile(r" *[0-9A-Za-z]+ *")
_ID = re.compile(r".{1,128}")


@attrs.frozen
class Fields:
    """The members of an object. Each method raises CheckFailed for one that is wrong.

    Args:
        members: By their names.
        path: Begins the names in answers, for an object inside of another.
    """

    members: Mapping[str, Any]
    path: str = ""

    def text(self, name: str, pattern: re.Pattern[str] = _ID) -> str:
        """Return a printable text that is not blank.

        Args:
            name: Of the member.
            pattern: The whole of it; up to 128 characters by default, for ids.
        """
        value = self._needed(name)
        is_text = isinstance(value, str) and value.isprintable() and value.strip()
        if not is_text or not pattern.fullmatch(value):
            raise bad_format(self.path + name)
        return str(value)

    def flag(self, name: str) -> bool:
        """Return whether a member is "Y", and not "N" or left out.

        Args:
            name: Of the member.
        """
        value = self.members.get(name)
        if value not in (None, "", "Y", "N"):
            raise bad_format(self.path + name)
        return bool(value == "Y")

    def amount(self, name: str) -> SnapAmount | None:
        """Return an amount of money; None where it is left out.

        Args:
            name: Of the member.
        """
        given = self.members.get(name)
        return None if given is None else self._amount(name, given)

    def needed_amount(self, name: str) -> SnapAmount:
        """Return an amount of money.

        Args:
            name: Of the member.
        """
        return self._amount(name, self._needed(name))

    def account(self) -> dict[str, str]:
        """Return the number of a virtual account and its two parts, by the names of values."""
        found = {
            "partner_service_id": self._number("partnerServiceId", 8),
            "customer_no": self._number("customerNo", 20),
            "virtual_account_no": self._number("virtualAccountNo", 28),
        }
        whole = found["partner_service_id"] + found["customer_no"]
        if found["virtual_account_no"].strip() != whole.strip():
            raise bad_format("virtualAccountNo")
        return found

    def _amount(self, name: str, given: object) -> SnapAmount:
        if not isinstance(given, dict):
            raise bad_format(self.path + name)
        inner = Fields(given, f"{name}.")
        return SnapAmount(Decimal(inner.text("value", _AMOUNT)), inner.text("currency", _CURRENCY))

    def _number(self, name: str, most: int) -> str:
        value = self.text(name, _NUMBER)
        if len(value) > most:
            raise bad_format(name)
        return value

    def _needed(self, name: str) -> Any:
        value = self.members.get(name)
        if value is None or value == "":
            raise missing(self.path + name)
        return value

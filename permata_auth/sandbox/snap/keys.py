"""FAKE TEST KEYS, public for ever: never register or use them anywhere but in this sandbox."""

from __future__ import annotations

import base64
import functools
import textwrap
from typing import Literal

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

Owner = Literal["merchant", "bank"]

# RSA 2048, as base64 of their PKCS#8 DER: made once, as making them takes long.
_FAKE_TEST_KEYS: dict[Owner, str] = {
    "merchant": """
MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQDjzJdm4ziFD0pGq1gmS/6Yjy69lVa06m5AVKBEexBMkb5G
CzEJVNCZkjn4clTw2BloycATA1Wbkor//QuvTnLps6iXu+VHgbu9UQ2K6GPpGSVMoSpazkonG7i8f4T8TwTbaSXOAiZ8zmXL
idYSfJPSRxrT9CD5JfBgysCqUAm3i9iWtzv9IZvQ/tmyN9CiEq6Aw5JGltFXIeaT+rc1kJu2tw1fvGxEBCOohrbewZ80bmzh
33KEYVNF2OpeddG4Kl5+bTsgFIc28PBpxL6RK6fX/qUDKzFKyuX65j5JfdDKim1cpq+WFxF+hu2/2j/TlWzegiI4j2kmO4Sk
xNyJ41wDAgMBAAECggEAAgWORJ0hdDE5RkKPZqBWZe1PYuKfgXeJtYAWaGgXMjbFR+XcEzA3gy4hmB/KL2EEVFmRqqUq7j5Z
y6QtpXXs9VcbZHvlJTaXiwvcMrohRIE+oGi/8XsYqtWkVM82Xx1sauJzd5+toCE1iVf/RuyLBvIumvQMQcbnJfesghCggop+
WkCQUtbFkkbRExrENhTB99kr5qmCCfu2CCTDinjAIUz9d0d3cszxlvU971csd1dOhdg5K4BItlsfY6/5d5tbSOPrGz9C3DkJ
EtqTMIF3Fy+nu+IRvuSQsTOGTkw7v68BGWGZ3xBiuziN310kqvWQzj3lOVq8/hNaHJLSzi/3EQKBgQD/3McecZ7yIEkjqCLV
lApeb7yz1kM6a0aWlPu9NNIY+OSVK7i8vTYPPY/fO1bxJfJA0S439UPK0l++0aUMwQdWyaRjVwn7YeRcVzIIQauWcqN3INdp
pUkJRBApf95Vgc20pfe+kp8Dc9DVnEHaGDPqJuUm9KB4MYWtHUuqxZzpzQKBgQDj6/NNlTEETBuMYYoJznddpOQ/lRP7LS/k
bSkMbM9Kipfft5Cwh4M+omApkVLB6pLhDh+JbMjuwu5HXMKoLjtJDtfjmJ/TXJPPa3m5rRTaIc6SCd2/D3vNiD8NBfbtrShA
L7FuXC8Ah91iravo2Qwlu6BB8AD0R2J0F0RUxdtNDwKBgHUyaJaeTsLzXO0TP9l6tQEqx1HMrACfULb6yRCSmEXOA838N+Nj
+9YhSbxjzuAolH1yE2yYUJQfprGeD6723+i19jF2leDqpxJQ8l7rza/dFNklVuZSSlEPNyP7KRkbmuDLQN6vBF0teJPPvi4q
9eSkKkScusAzVtrD13wChmxlAoGAdHsAY9TsMQsIRS0QE8TtofEEKS5yALruL+pNwSjWo3zC8zVn/5+xxk/Ln1LCnZHZMKU8
Hsp2wfbjOZtBbBv8dnDcildUzvsQG0AM/IRlFLmUTXQ3XE54cejAeFJlCMCmwm7dWc5IwxesX6LsKVrLZ3lFBI24nx7gRP4j
EMPxOKcCgYEA8dGWTTs76X7ridDF5Z+pKf+b7lmNCxHDuq+0/ilTub4AEOgHHsl2sX8493ihgWqWIhOXEt6bUd73q++Ys1dF
akdEqghWqOI7zqqc6uhy1gvsuFRk5BYwhYB4S9AJlsUvUsgKPGhXqpVTv3b0d/xSHr4OVcQVBrMN7jRUptb8/ZU=
""",
    "bank": """
MIIEvAIBADANBgkqhkiG9w0BAQEFAASCBKYwggSiAgEAAoIBAQD0ownw2g1zZpJDIF6aJ0wUbCHyuTJ2g1VIb413p/JKN9mg
1J4DNPIOCV3oNyU1AV8l6MzEIkc5S2cooGSOLsH/iWvkOOtmWT4li1vG3JUeDUN8vro3FbtMXS0pevWknK3rJOm+fc6FfpSP
zJemtguq/WbXZRToPh43miYLtmjamZ0AijU68H6ik6PgaAUAvHmvnfyL9ZC6UD89CLkRpJAlWx8rcpNSU7jRGGTCc8drLLIy
R2q9MrCfbnXAIiHzsYhLpd34sKh50ve12alwb5JudCFPXip1a+xaxeIP1LV8bxRiHMWBcXt+oKRwbNdr8L/1KS8CVZidd8/7
kqEfMAKzAgMBAAECggEAYx3/tBcU5hHD5vChg8GyQIADTS2d9YiGsD+KSNXCBDIWueQLVW9JN0iyRJi7OXuhymFFPZ5Jzzvu
wvYhZ74oGdna3e/16FT2Kg4JlEvhGvjyxAMevZzPc0Q5PRo1loloqeId1nFwkIPVu2GAfCo8Ff5vgYvR6brpUUviaFJyr0ZN
HNn+ZLhL5PKkSmkJSKSj9fChiA4srXIpvJK6YP8yLDpgNX4HcdWoNsjr+xXyPaV5m8xpYRw/6YTnkqjDNevyEzCc/6zD9o6O
MBcjF2tZtaIKLAePAwrxClRrJIysUVf0ar21m2as2ySDSVG+0mChJKeV63UE1sFjUuOK/4kV6QKBgQD7XtlWHDN/7hJnK00q
dstW57O1wuiMG0QjjSC7gPQLzXPtUFhjDLaA6c2aEk+/NA74exWJHpOfFUBCek6yF+mV3NfYdT9S6x3pt8FvC+vENCoNzc9E
q7zE47JCN5H+IWdUtmLBevZyEVeFZiWHRTMr45ryO0rPh89kj/4avHwu3wKBgQD5JHFB23c3ZurzDwFE5wl+OxKDjmM7NntE
qhGhftGryme00l/zvxdIp8tqddAVfEFRYv1Epd2K53M/uT7yMJyNbnEAn2T/QcQsoqfFybGjWpldzzDeG5N7wS7u3Q3Tky1o
vW+kFfE0iytiTEzsP8YsWNDIy3LeLnZVVua8U6RqrQKBgG/iDbZoIvwECSjmexg1e9gYlUKHmF4UHMX+IN2UTguazMiKBG1B
0VGbvymekOQ31Zn/ntxDQc2C9fEg4zodrphHjcMInMDZaZ0Hbw9wLOZNmZI/Usvr7L9t4X/boB2O3KE19MrNYjfvRBdaGcYV
pOsaCXNbtLaeak8GUEGyN0vdAoGAPOK7Cu0nZVKxeFTiaoRLvZ2SGLRja8UUuuMVC/KCKwl77qS67kZ02jynaY0BHT8Qd2NJ
oc0nJxsI/zm2OFnI6Idk9lH9zKO13XKiraNs1g7+C/7mYmE62bOMVLOQ/XOqVT52WhNCrySTpaIf6lxrgcryux99Iu8X3CMw
oDWQqMECgYBU0xCindZQMwQfNobCO7miLJAVaYkaC0JvNCsSxYc5reRUAAxzbMCOApvfoEi/WC30L5oTEhMAL8oJozmMZa8a
Z68vPFXXE1oFkagPPOAs5lb9sl96OpiWiIBL8Z36kltwAI1mPJkfZBL5onoFC+eWINPsVu56fPG/uTNXEAAHcA==
""",
}


@functools.lru_cache
def private_key(owner: Owner) -> rsa.RSAPrivateKey:
    """Return a fake key. They are known to be sound, so the slow check is left out.

    Args:
        owner: The side that signs with it.
    """
    der = base64.b64decode(_FAKE_TEST_KEYS[owner])
    key = serialization.load_der_private_key(der, None, unsafe_skip_rsa_key_validation=True)
    assert isinstance(key, rsa.RSAPrivateKey)
    return key


def private_pem(owner: Owner) -> str:
    """Return a fake key as PEM of its PKCS#8 form.

    Args:
        owner: As of :func:`private_key`.
    """
    return _pem("PRIVATE KEY", base64.b64decode(_FAKE_TEST_KEYS[owner]))


def public_pem(owner: Owner) -> str:
    """Return the public half of a fake key as PEM.

    Args:
        owner: As of :func:`private_key`.
    """
    key = private_key(owner).public_key()
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return _pem("PUBLIC KEY", key.public_bytes(serialization.Encoding.DER, form))


def _pem(label: str, der: bytes) -> str:
    lines = textwrap.wrap(base64.b64encode(der).decode(), 64)
    return "\n".join([f"-----BEGIN {label}-----", *lines, f"-----END {label}-----", ""])


def one_line(pem: str) -> str:
    r"""Return PEM as an environment variable holds it: each line break as the two characters \n.

    Args:
        pem: Of several lines.
    """
    return pem.strip().replace("\n", r"\n")

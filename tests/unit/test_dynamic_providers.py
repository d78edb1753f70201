"""Stacks of earlier versions find the providers that their state refers to.

State has a pickled reference to the class of a dynamic resource's provider. A module that is moved
must leave one under its former name: golden/dynamic_providers.json has what such states hold.
"""

import base64
import json
import subprocess
import sys
from pathlib import Path

import pytest
from pulumi.dynamic import ResourceProvider
from pulumi.dynamic.dynamic import serialize_provider

from dds_patterns.platform import certificates, generated, kubeconfig

REFERENCES: dict[str, str] = json.loads(
    (Path(__file__).parent / "golden" / "dynamic_providers.json").read_text()
)
PRESENT = (
    certificates.AuthorityProvider,
    certificates.CertificateProvider,
    generated.PasswordProvider,
    kubeconfig.KubeconfigProvider,
)
LOAD = """
import base64, sys, dill
provider = dill.loads(base64.b64decode(sys.argv[1]))
print(f"{type(provider).__module__}.{type(provider).__name__}")
"""


@pytest.mark.parametrize("name", REFERENCES)
def test_a_reference_in_a_state_is_found(name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOAD, REFERENCES[name]], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == name


@pytest.mark.parametrize("provider", PRESENT)
def test_what_is_written_today_is_on_record(provider: type[ResourceProvider]) -> None:
    # As a reference, so that editing the module changes no state.
    serialised = serialize_provider(provider())
    assert provider.__name__.encode() in base64.b64decode(serialised)
    assert len(serialised) < 400
    assert REFERENCES[f"{provider.__module__}.{provider.__name__}"] == serialised

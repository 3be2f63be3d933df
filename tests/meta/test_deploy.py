"""The manifests of deploy/ are what Kubernetes takes, and call pytest with options that it has."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from fixtures.options import options


@pytest.fixture
def validate():
    """The package that knows Kubernetes' schemas; it takes long to import, and is not always there."""
    return pytest.importorskip("kubernetes_validate", reason="pip install -r requirements-cluster.txt")


DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
KUBERNETES = "1.37"


def manifest(name):
    """A manifest as plain data."""
    return YAML(typ="safe").load(DEPLOY / name)


def pods():
    """Pod templates of all manifests, each as a Pod that the schema of Kubernetes knows."""
    cluster = manifest("rayjob.yaml")["spec"]["rayClusterSpec"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    return [{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, **g["template"]} for g in groups]


def test_the_job_is_what_kubernetes_takes(validate):
    """The Job follows the strict schema: a misspelled key would be refused."""
    validate.validate(manifest("job.yaml"), KUBERNETES, strict=True)


@pytest.mark.parametrize("pod", pods(), ids=lambda pod: pod["spec"]["containers"][0]["name"])
def test_pods_of_the_ray_cluster_are_what_kubernetes_takes(validate, pod):
    """So do the pods of head and workers."""
    validate.validate(pod, KUBERNETES, strict=True)


def test_the_ray_of_the_manifest_is_the_one_that_is_installed():
    """Client and cluster have to have one version of Ray."""
    wanted = (DEPLOY.parent / "requirements-cluster.txt").read_text(encoding="utf-8")
    assert f"ray[client]=={manifest('rayjob.yaml')['spec']['rayClusterSpec']['rayVersion']} " in wanted


@pytest.mark.parametrize("name", ["job.yaml", "rayjob.yaml"])
def test_commands_are_ones_that_the_suite_has(name):
    """Long options are the suite's own."""
    spec = manifest(name)["spec"]
    words = (
        shlex.split(spec["entrypoint"])
        if name == "rayjob.yaml"
        else [*(c := spec["template"]["spec"]["containers"][0])["command"], *c["args"]]
    )
    assert words[0] == "pytest"
    asked = {word.partition("=")[0] for word in words if word.startswith("--")}
    assert asked
    assert asked <= options().keys()

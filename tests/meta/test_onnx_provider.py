"""The execution provider that was asked for is the one in use, or nothing runs."""

from __future__ import annotations

from importlib import util

import pytest

from engines.errors import RunnerError, SpecError
from engines.formats import registry
from engines.formats.onnx import providers
from engines.formats.tensorrt import driver
from tests.meta.rtx_networks import dense

(PLUGIN,) = providers.PLUGINS
INSTALLED = util.find_spec(providers.PLUGINS[PLUGIN]) is not None


def opened(tmp_path, provider):
    """Session of a small network with a provider."""
    import onnxruntime as ort

    return providers.session(dense(tmp_path / "dense.onnx"), provider, {}, ort.SessionOptions(), "onnx-fp32")


def test_the_one_that_was_asked_for_is_in_use(tmp_path):
    """A session runs on the provider of its option, the CPU unless another is named."""
    assert opened(tmp_path, providers.CPU).get_providers() == [providers.CPU]
    assert providers.OPTION.default == (providers.CPU,)


def test_an_unknown_one_is_refused(tmp_path):
    """A provider that this ONNX Runtime does not have is refused by name, with those there are."""
    with pytest.raises(RunnerError, match=f"onnx-fp32: provider 'Nope' is not in this build; allowed: .*{PLUGIN}"):
        opened(tmp_path, "Nope")


@pytest.mark.skipif(INSTALLED, reason=f"{PLUGIN} is installed")
def test_a_plugin_that_is_not_installed_is_refused(tmp_path):
    """A provider of a package of its own is refused with that package's name, where it is not installed."""
    with pytest.raises(RunnerError, match=f"{PLUGIN} is not installed; allowed: pip install onnxruntime-ep-nv-"):
        opened(tmp_path, PLUGIN)


@pytest.mark.skipif(not INSTALLED, reason=f"{PLUGIN} is not installed")
@pytest.mark.skipif(driver.problem(0) is None, reason="this machine has a driver")
def test_a_plugin_without_a_driver_is_refused(tmp_path):
    """Where its library cannot be loaded nothing runs, least of all on the CPU."""
    with pytest.raises(RunnerError, match=f"{PLUGIN} cannot be used here: .*libcuda"):
        opened(tmp_path, PLUGIN)


def test_one_provider_at_a_time():
    """The option takes one provider: two of them are refused before anything runs."""
    with pytest.raises(SpecError, match="--onnx-provider is given as A and as B; allowed: one of them"):
        registry.settings({"onnx-provider": ["A", "B"]})

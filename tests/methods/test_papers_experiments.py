"""The experiments that presets stand for name plugins that there are, and the docs name their methods."""

from __future__ import annotations

import re
from pathlib import Path

from ddbench.plugin.manager import load_plugin, load_plugins
from ddbench.plugin.presets import load_presets

DOCS = Path(__file__).parents[2] / "docs" / "cli" / "presets.md"


def experiments():
    """Return plugins, and the experiments of every method: at all scales, or at paper scale alone."""
    plugins = load_plugins()
    found = {}
    for name, entry in plugins.entries["method"].items():
        rules = load_presets(type(load_plugin(entry)), name)
        if known := [(rule["run"], rule.get("when", {})) for rule in rules if "eval" in rule.get("run", {})]:
            found[name] = known
    return plugins, found


def test_experiments_name_what_there_is():
    plugins, found = experiments()
    for known in found.values():
        for experiment, _ in known:
            plugins.get("evaluator", experiment["eval"])
            networks = experiment.get("network", [])
            for network in [networks] if isinstance(networks, str) else networks:
                plugins.get("network", network)


def test_the_docs_name_the_methods_whose_evaluation_is_known():
    _, found = experiments()
    paragraph = re.search(
        r"The evaluation of the paper is known of (.*?)`paper` scale, and of (.*?) at both", DOCS.read_text(), re.S
    )
    at_paper, at_both = (set(re.findall(r"`([^`]+)`", part)) for part in paragraph.groups())
    assert at_both == {name for name, known in found.items() if any("scale" not in when for _, when in known)}
    assert at_paper == set(found) - at_both

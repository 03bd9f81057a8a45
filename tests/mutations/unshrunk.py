"""A plugin for pytest: Hypothesis need not shrink the example that shows a mutation."""

from hypothesis import Phase, settings

settings.register_profile("unshrunk", phases=(Phase.explicit, Phase.generate))
settings.load_profile("unshrunk")

"""Which features belong to the pixels of these frames? Kept on disk at every stride-th pixel, read back frame by frame.

A scene is one safetensors file; docs/cache.md says what is in it, for readers without this library. Host only.
"""

from .build import BuiltCaches, build_caches
from .reader import BrokenCacheError, CachedFrame, FeatureCache
from .writer import CacheWriter

__all__ = ["BrokenCacheError", "BuiltCaches", "CacheWriter", "CachedFrame", "FeatureCache", "build_caches"]

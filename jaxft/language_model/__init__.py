"""The language-model stage, which `jaxft.pretrain` runs alone and `jaxft.ulmfit` runs before its classifier."""

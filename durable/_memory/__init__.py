"""Engines that keep what is written in memory: a whole store, or what lies above another one."""

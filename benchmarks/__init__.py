"""Measurements that are ratios within one run; nothing here is a test."""

"""From runs to numbers: groups of equal runs, intervals, claims, tables."""

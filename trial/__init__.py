"""Run and judge engines without pytest: inputs, rules, causes."""

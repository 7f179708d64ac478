"""Adapters to frameworks, each a module that imports its framework: `trivec.integrations.langchain` and so on."""

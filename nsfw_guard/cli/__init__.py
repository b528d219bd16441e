"""The command `nsfw-guard`: parse, call a tool, print. Data goes to standard output, messages to standard error."""

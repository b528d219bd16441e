"""`python -m nsfw_guard`, which is `nsfw-guard`: for launchers that start modules, such as accelerate's."""

from nsfw_guard.cli.main import main

if __name__ == "__main__":
    raise SystemExit(main())

"""What a stranger does first, by the Python of an environment in which nothing is but a wheel and an extra.

    PYTHON -P tests/stranger.py docs/frameworks.md

in an empty folder: the demo, a folder kept in step, another language, and the page's example for LangChain.
"""

import re
import subprocess
import sys
from pathlib import Path


def edgeret(*arguments: str) -> str:
    """Run the command that was installed; what it printed."""
    command = [Path(sys.executable).with_name("edgeret"), *arguments]
    return subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True
    ).stdout


def examples(page: str, heading: str) -> tuple[str, str]:
    """The first Python block below a heading, and what it prints."""
    below = page.partition(f"\n## {heading}\n")[2]
    return re.search(r"```python\n(.*?)```\s*```text\n(.*?)```", below, re.DOTALL).groups()


page = Path(sys.argv[1]).read_text(encoding="utf-8")
assert "ms" in edgeret("demo")
Path("notes").mkdir()
Path("notes/wifi.md").write_text("Hold the button for five seconds to reset the Wi-Fi.")
Path("notes/lamp.md").write_text("The lamp turns red when its battery is low.")
assert "added: 2" in edgeret("sync", "house.edgeret", "notes")
Path("notes/lamp.md").unlink()
assert "removed: 1" in edgeret("sync", "house.edgeret", "notes")
assert "wifi.md" in edgeret("search", "house.edgeret", "my wireless is broken")
Path("notizen").mkdir()
Path("notizen/wlan.md").write_text(
    "Halten Sie den Knopf fünf Sekunden gedrückt, um das WLAN zurückzusetzen.", "utf-8"
)
Path("notizen/lampe.md").write_text("Die Lampe leuchtet rot, wenn die Batterie schwach ist.", "utf-8")
assert "added: 2" in edgeret("sync", "haus.edgeret", "notizen", "--model", "world-nano")
assert "lampe.md" in edgeret("search", "haus.edgeret", "why is the lamp red", "-k", "1")
source, printed = examples(page, "LangChain")
assert (
    subprocess.run([sys.executable, "-P", "-c", source], capture_output=True, text=True, check=True).stdout
    == printed
)
print(f"Python {sys.version.split()[0]}: demo, sync, world-nano and LangChain")

"""The tool that draws where time goes."""

import pathlib
import subprocess
import sys
from xml.etree import ElementTree as ET

ROOT = pathlib.Path(__file__).parents[1]
STACKS = """\
main (proxy/cli.py:1);run (proxy/app.py:10);read (proxy/wire/ask.py:3) 30
main (proxy/cli.py:1);run (proxy/app.py:12);read (proxy/wire/ask.py:7) 10
main (proxy/cli.py:1);run (proxy/app.py:12);<lambda> (json/decoder.py:7) 60
idle (threading.py:1) 900
"""


def test_lines_of_a_function_are_one_box_and_widths_are_shares(tmp_path):
    (tmp_path / "stacks.txt").write_text(STACKS)
    command = [sys.executable, "tools/flame.py", str(tmp_path / "stacks.txt"), str(tmp_path / "out.svg")]
    done = subprocess.run(
        [*command, "--root", "run", "--us", "200"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    svg = ET.parse(tmp_path / "out.svg").getroot()
    space = "{http://www.w3.org/2000/svg}"
    titles = [t.text for t in svg.iter(space + "title")]
    assert titles == ["run 200.0 us", "<lambda> (json/decoder.py) 120.0 us", "read (wire/ask.py) 80.0 us"]
    widths = [float(r.get("width")) for r in svg.iter(space + "rect")]
    assert abs(widths[2] / widths[0] - 0.4) < 0.01


def test_a_root_that_is_not_there_is_told(tmp_path):
    (tmp_path / "stacks.txt").write_text(STACKS)
    command = [sys.executable, "tools/flame.py", str(tmp_path / "stacks.txt"), str(tmp_path / "out.svg")]
    done = subprocess.run([*command, "--root", "nowhere"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert "no stack holds 'nowhere'" in done.stderr

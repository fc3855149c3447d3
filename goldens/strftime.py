"""What Python prints for the codes of strftime, on the day that chat templates are told.

    TZ=UTC python3 goldens/strftime.py > goldens/strftime.txt

Each line is a format, a tab and its text with `\\n` and `\\t` spelled out; `!` where a code is printed as it was
written, which means that there is none. On Linux (CPython over glibc).
"""

import datetime

DAY = datetime.datetime(2024, 7, 26)
CODES = "aAbBcCdDeFgGhHIjklmMnpPrRsStTuUVwWxXyYzZ%fQqiL"
FLAGS = ["", "-", "_", "0", "^", "#", "E", "O", "^#", "#^", "-_", "_-", "0_", "^E", "_O"]
TEXTS = ["%-d %b %Y", "%I:%M %p, day %j", "%H:%M:%S", "100%% %Y", "%-I%P", "no code"]

for text in [f"%{flag}{code}" for flag in FLAGS for code in CODES] + TEXTS:
    shown = DAY.strftime(text)
    verbatim = shown.startswith("%") and not text.endswith("%")
    print(text, "!" if verbatim else shown.replace("\n", "\\n").replace("\t", "\\t"), sep="\t")

"""CPython's own tests of smtplib, with mailbridge in smtplib's place.

They run in a process of their own, since they replace the module ``smtplib`` for good. Every test
must pass except those of `EXCLUDED`, and those must fail: what passes is to be struck off the list.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

MOCKED = "replaces smtplib.socket by a mock that counts on smtplib's very calls; ours polls"
EXCLUDED = {
    "[SL]MTPGeneralTests.testBasic?": MOCKED,
    "[SL]MTPGeneralTests.testLocalHostName": MOCKED,
    "[SL]MTPGeneralTests.testSourceAddress": MOCKED,
    "[SL]MTPGeneralTests.testTimeoutDefault": MOCKED,
    "[SL]MTPGeneralTests.testTimeoutNone": MOCKED,
    "[SL]MTPGeneralTests.testTimeoutValue": MOCKED,
    "[SL]MTPGeneralTests.test_debuglevel*": MOCKED,
    "LMTPGeneralTests.testUnixDomainSocketTimeout*": MOCKED,
    "BadHELOServerTests.testFailingHELO": MOCKED,
    "SMTPSimTests.test_lowercase_mail_from_rcpt_to": (
        "asserts SIZE=14 for a content of 16 octets as transmitted; RFC 1870 section 5 counts"
        " each CRLF as two"
    ),
}
AT_LEAST = 60

RUN = """
import json, sys, types, unittest
import smtplib as original
import mailbridge

# mailbridge by smtplib's name, with the two private names that the tests look at.
stand_in = types.ModuleType("smtplib")
stand_in.__dict__.update({n: getattr(mailbridge, n) for n in dir(mailbridge) if n[:2] != "__"})
stand_in._MAXLINE = original._MAXLINE
stand_in._have_cram_md5_support = True
sys.modules["smtplib"] = stand_in

import test.test_smtplib

class Result(unittest.TestResult):
    outcome = {}
    def addSuccess(self, test):
        self.outcome.setdefault(test.id(), "passed")
    def addSkip(self, test, reason):
        self.outcome[test.id()] = "skipped"
    def addFailure(self, test, error):
        self.outcome[test.id()] = self._exc_info_to_string(error, test)
    addError = addFailure

suite = unittest.defaultTestLoader.loadTestsFromModule(test.test_smtplib)
sys.stdout, real = sys.stderr, sys.stdout
suite.run(Result())
json.dump({k.partition("test_smtplib.")[2]: v for k, v in Result.outcome.items()}, real)
"""


def is_excluded(name: str) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in EXCLUDED)


@pytest.fixture(scope="module")
def outcome() -> dict[str, str]:
    if importlib.util.find_spec("test.test_smtplib") is None:
        pytest.skip("this Python was installed without its own test suite (test.test_smtplib)")
    done = subprocess.run(
        [sys.executable, "-c", RUN],
        check=False,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=55,
    )
    assert done.returncode == 0, done.stderr
    result: dict[str, str] = json.loads(done.stdout)
    return result


def test_cpythons_tests_of_smtplib_pass(outcome: dict[str, str]) -> None:
    failed = {
        name: text
        for name, text in outcome.items()
        if text not in ("passed", "skipped") and not is_excluded(name)
    }
    assert not failed, "\n".join(f"{name}:\n{text}" for name, text in failed.items())
    passed = sum(text == "passed" for text in outcome.values())
    print(f"{passed} of CPython's {len(outcome)} tests of smtplib passed")
    assert passed >= AT_LEAST


def test_no_exclusion_is_stale(outcome: dict[str, str]) -> None:
    # The wrong SIZE is in some versions' tests only; the mocks are in all.
    stale = [name for name, text in outcome.items() if text == "passed" and is_excluded(name)]
    assert set(stale) <= {"SMTPSimTests.test_lowercase_mail_from_rcpt_to"}

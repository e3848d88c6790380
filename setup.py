"""Describes the extension module; everything else about the package stands in pyproject.toml.

Environment variables, all for development:

SESSILE_WERROR=1                      warnings of our own C files are errors (the Makefile sets it)
SESSILE_SANITIZE=address,undefined    builds with these sanitizers, assertions and symbols
SESSILE_SYMBOLS=1                     keeps the symbols of an ordinary build, for a profiler or a debugger
SESSILE_PRIVATE_HOME=1                builds the private home: memory of this process alone, never shared
"""

import os
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from glob import glob

from Cython.Build import cythonize
from Cython.Compiler import Options
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

SANITIZERS = os.environ.get("SESSILE_SANITIZE", "")
SYMBOLS = os.environ.get("SESSILE_SYMBOLS") == "1"
# A warning of Cython's may be all that is heard of an exception that is no longer looked for.
Options.warning_errors = os.environ.get("SESSILE_WERROR") == "1"
WARNINGS = ["-Wall", "-Wextra"] + (["-Werror"] if Options.warning_errors else [])
# Shortcuts into the interpreter that Cython's code need not take: each is a larger form of the same call.
PLAIN = ["-Wno-unused-function"]
PLAIN += [f"-DCYTHON_{name}=0" for name in ("UNPACK_METHODS", "USE_DICT_VERSIONS", "COMPRESS_STRINGS", "VECTORCALL_TPNEW")]
# Nothing that a request waits for is in these.
RARELY_RUN = {"export.c", "home.c", "import.c", "listing.c", "opening.c", "persist.c", "process.c", "recover.c", "system.c"}


def require_supported_machine():
    """Say in one line what would otherwise be pages of compiler errors. csrc checks the same once more."""
    if sys.maxsize < 2**63 - 1:
        sys.exit("sessile needs a 64-bit Python: its table is one mapping of up to terabytes of addresses.")
    if sys.byteorder != "little":
        sys.exit("sessile needs a little-endian machine: so is the layout of its table and its snapshots.")
    if sys.platform != "linux":
        sys.exit("sessile needs Linux: memfd, futexes, locks of open file descriptions. On Windows: WSL.")
    header = os.path.join(sysconfig.get_path("include"), "Python.h")
    if not os.path.exists(header):
        sys.exit(f"sessile is compiled: {header} is missing. On Debian or Ubuntu: apt install python3-dev")


def compile_flags():
    flags = ["-std=c11", "-fvisibility=hidden"]
    if SANITIZERS:
        sanitize = [f"-fsanitize={SANITIZERS}", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"]
        return [*flags, "-O1", "-g", "-UNDEBUG", "-DSESSILE_DEBUG", *sanitize]
    harden = ["-fno-plt", "-fstack-protector-strong", "-U_FORTIFY_SOURCE", "-D_FORTIFY_SOURCE=2"]
    # -g0: Python's own -g would make the wheel five times as large.
    # Nor does anything unwind through our frames: 7 KB of the wheel.
    return [*flags, "-O2", *(["-g"] if SYMBOLS else ["-g0", "-fno-asynchronous-unwind-tables"]), *harden]


def link_flags():
    if SANITIZERS:
        return [f"-fsanitize={SANITIZERS}"]
    return ["-Wl,-z,relro,-z,now", "-Wl,-z,noexecstack", *([] if SYMBOLS else ["-Wl,-s"])]


def extension(name, *c_sources, **options):
    source = "src/" + name.replace(".", "/") + ".pyx"
    flags = {"extra_compile_args": compile_flags(), "extra_link_args": link_flags()}
    return Extension(name, [source, *c_sources], **flags, **options)


class BuildExtensions(build_ext):
    """Compiles the files of an extension side by side, and asks for warnings in our own C files only."""

    def build_extensions(self):
        compile_files = self.compiler.compile

        def compile_file(source, options):
            folder, name = os.path.split(os.path.normpath(source))
            ours = folder == "csrc"
            # Two thirds of the code are Cython's, most of that error paths: a small wheel.
            small = ["-Os"] if not ours or name in RARELY_RUN else []
            options["extra_postargs"] = [*options["extra_postargs"], *(WARNINGS if ours else PLAIN), *small]
            return compile_files([source], **options)

        def compile_side_by_side(sources, **options):
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                jobs = [pool.submit(compile_file, source, dict(options)) for source in sources]
                return [path for job in jobs for path in job.result()]

        self.compiler.compile = compile_side_by_side
        self.parallel = os.cpu_count()      # and the extensions beside each other
        super().build_extensions()


require_supported_machine()
private_home = os.environ.get("SESSILE_PRIVATE_HOME") == "1"
setup(
    cmdclass={"build_ext": BuildExtensions},
    ext_modules=cythonize(
        [
            extension(
                "sessile._table",
                *sorted(glob("csrc/*.c")),
                include_dirs=["csrc"],
                libraries=["m"],
                # A name that is not there would end the build.
                depends=sorted(glob("csrc/*.h") + glob("src/sessile/*.px[di]")),
                define_macros=[("SESSILE_PRIVATE_HOME", "1")] if private_home else [],
            ),
        ],
        build_dir="build/cython-lines" if SYMBOLS else "build/cython",
        emit_linenums=SYMBOLS,                      # a profiler names our lines instead of those of the generated file
        compiler_directives={
            "language_level": 3,
            # Plain C methods: called faster than Cython's own function objects, without a count of references that
            # free threads would share, and a tenth of the wheel smaller. stubtest still finds their signatures.
            "binding": False,
            "embedsignature": True,
            "embedsignature.format": "clinic",
            "auto_pickle": False,
            "autotestdict": False,
            "freethreading_compatible": True,
        },
    ),
)

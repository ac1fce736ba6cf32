"""Fetches Flink from PyPI and Maven Central, outside the clone, and checks what came by checksums."""

import fcntl
import hashlib
import os
import pathlib
import shutil
import sys
import tarfile

from .processes import REPOSITORY, Trouble, run

FLINK = "2.3.0"
CONNECTOR = "flink-sql-connector-kafka-5.0.0-2.2.jar"
CONNECTOR_SHA256 = "5605c691d11a501382c383fecba37a7a552467da5ab7ba904ef5d6f3d62c5616"
HERE = pathlib.Path(__file__).parent


def kafka():
    """Java and Kafka's jars; the folder of the jars."""
    script = REPOSITORY / "scripts" / "kafka.sh"
    run([script, "install"], "scripts/kafka.sh install")
    if "jdk.compiler" not in run(["java", "--list-modules"], "java"):
        print("installing a JDK: the helpers of the benchmark are run from their source", file=sys.stderr)
        run(["apt-get", "update", "-qq"], "apt-get")
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", "default-jdk-headless"], "apt-get", env=environment)
    pom = (REPOSITORY / "scripts" / "kafka" / "pom.xml").read_text()
    version = pom.split("<artifactId>kafka_2.13</artifactId>")[1].split("<version>")[1].split("<")[0]
    return pathlib.Path(os.environ.get("ACEQUIA_KAFKA_CACHE", "/var/tmp/acequia-kafka")) / version / "jars"


def flink():
    """The folder of the distribution: `lib` with the Kafka connector in it, `bin` with the reckoner of memory."""
    cache = pathlib.Path(os.environ.get("ACEQUIA_FLINK_CACHE", "/var/tmp/acequia-flink"))
    home = cache / FLINK
    cache.mkdir(parents=True, exist_ok=True)
    with open(cache / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not home.exists():
            print(f"fetching Apache Flink {FLINK} into {home}", file=sys.stderr)
            fetch(home)
    return home


def fetch(home):
    """The last step is a rename, so that a fetch that broke off is never taken for a whole one."""
    partial = home.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    # The hash of the whole archive is in the requirements, so that nothing of it is run or unpacked unchecked.
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
    pip += ["--no-binary", "apache-flink-libraries", "--dest", partial, "-r", HERE / "flink.requirements.txt"]
    run(pip, "fetching Flink from PyPI")
    [archive] = partial.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        for member in tar:
            place = member.name.split("/")
            if member.isfile() and place[1:2] == ["deps"] and place[2] in ("lib", "bin") and ".." not in place:
                target = partial.joinpath(*place[2:])
                target.parent.mkdir(parents=True, exist_ok=True)
                with tar.extractfile(member) as source, open(target, "wb") as out:
                    shutil.copyfileobj(source, out)
    archive.unlink()
    maven = ["mvn", "-B", "-q", "-f", HERE / "flink.pom.xml", "dependency:copy-dependencies", "-DexcludeTransitive=true"]
    run([*maven, f"-DoutputDirectory={partial / 'lib'}"], "fetching Flink's Kafka connector from Maven Central")
    found = hashlib.sha256((partial / "lib" / CONNECTOR).read_bytes()).hexdigest()
    if found != CONNECTOR_SHA256:
        raise Trouble(f"{CONNECTOR} has checksum {found}, not {CONNECTOR_SHA256}")
    partial.rename(home)

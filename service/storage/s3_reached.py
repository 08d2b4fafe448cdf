"""What it means where no S3 server's answer came: connections, proxies, TLS, credentials, and answers of something else."""

import re
from typing import Any
from urllib.parse import quote, urlsplit

from botocore.exceptions import (
    ConnectionClosedError,
    ConnectionError,
    CredentialRetrievalError,
    HTTPClientError,
    IncompleteReadError,
    MetadataRetrievalError,
    NoCredentialsError,
    PartialCredentialsError,
    ProxyConnectionError,
    SSLError,
)
from botocore.parsers import ResponseParserError
from botocore.utils import get_environ_proxies

from service.errors import CredentialsRefused, StoreError, StoreUnreachable
from service.settings import process_environment
from service.storage.location import S3Location
from service.storage.s3_answers import NotS3, one_line, origin

RETRIEVAL = (CredentialRetrievalError, MetadataRetrievalError)
"""Credentials that could not be fetched from what refreshes them."""
TRANSPORT = (HTTPClientError, ConnectionError, IncompleteReadError, OSError)
"""Failures that may end without anybody's doing."""
_SIGNED = re.compile(
    r"(?i)\b(Signature|X-Amz-Signature|X-Amz-Security-Token|Credential|password|token)=[^\s&,;\"']+|Bearer [^\s\"']+"
)


def unanswered(error: Exception, location: S3Location, patience: float) -> StoreError | None:
    """The error of Delayline for what is no refusal of an S3 server; None for others."""
    url = location.url
    if isinstance(error, NoCredentialsError | PartialCredentialsError):
        return CredentialsRefused(
            f"There are no credentials for {url}: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or an AWS profile."
        )
    if isinstance(error, RETRIEVAL):
        return CredentialsRefused(
            f"The credentials for {url} cannot be fetched ({one_line(str(error), 150)}): see what refreshes them, or set AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY."
        )
    if isinstance(error, NotS3):
        return _no_server(error, location, patience)
    if isinstance(error, ResponseParserError | KeyError | ValueError):
        return StoreError(
            f"What answers at {location.endpoint or 'AWS'} is no S3 server, or a broken one: its answer cannot be read ({one_line(str(error))}); "
            f"{_usual_causes(location)}."
        )
    if isinstance(error, ProxyConnectionError) and (proxy := _proxy(location)):
        return StoreUnreachable(
            f"The store {url} cannot be reached through the proxy {proxy} ({_cause(error)}): see that it runs and lets this through, "
            f"or set NO_PROXY={_host(location)}, and requests go without it."
        )
    if isinstance(error, SSLError) and (remedy := tls_remedy(error)):
        return StoreError(f"The store {url} cannot be reached over TLS: {remedy}.")
    if isinstance(error, TRANSPORT):
        return StoreUnreachable(
            f"The store {url} did not answer for {patience:g} s ({type(error).__name__}{_cause(error, ': ')}): "
            f"see whether the server runs and the endpoint is right{_of_closing(error, location)}{_of_proxy(location)}."
        )
    return None


def see_other(error: Exception) -> Exception:
    """The error of a request; NotS3 for status 303, at which urllib3 fails because of botocore's headers."""
    if isinstance(error, HTTPClientError) and isinstance(error.kwargs.get("error"), TypeError):
        return NotS3("303, a redirect")
    return error


def tls_remedy(error: SSLError) -> str:
    """What to do about a lasting failure of TLS; empty for one that may end."""
    text = str(error)
    if "CERTIFICATE_VERIFY_FAILED" in text:
        if "ostname mismatch" in text or "IP address mismatch" in text:
            return "its certificate is for another name; write the name of the certificate in the endpoint"
        if "certificate has expired" in text:
            return "its certificate has expired; have the server's owner renew it, or set this machine's clock right"
        return "its certificate is not trusted here; set AWS_CA_BUNDLE to the file of the authority that signed it"
    if any(words in text for words in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "record layer failure", "HTTP_REQUEST")):
        return "the server speaks plain HTTP; write http:// instead of https:// in the endpoint"
    return ""


def without_secrets(text: str, client: Any) -> str:
    """A text that may repeat what a request held, without its keys and signatures. `client` is boto3's, or None."""
    signer = getattr(client, "_request_signer", None)
    found = getattr(signer, "_credentials", None)
    secrets = [getattr(found, "secret_key", None), getattr(found, "token", None)] if found else []
    secrets += [process_environment().get(name) for name in ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN")]
    for secret in secrets:
        # A shorter one is a word that a sentence may hold.
        if isinstance(secret, str) and len(secret) >= 8:
            text = text.replace(secret, "…").replace(quote(secret, safe=""), "…")
    return _SIGNED.sub(lambda match: f"{match[1]}=…" if match[1] else "Bearer …", text)


def _no_server(error: NotS3, location: S3Location, patience: float) -> StoreError:
    where, remedy = location.endpoint or "AWS", error.remedy
    if error.passing:
        return StoreUnreachable(
            f"What answers at {where} had no S3 server behind it for {patience:g} s ({error.seen}): see whether the server runs"
            f"{_of_proxy(location)}."
        )
    return StoreError(f"What answers at {where} is no S3 server ({error.seen}): {remedy or _usual_causes(location)}.")


def _usual_causes(location: S3Location) -> str:
    proxy = _proxy(location)
    if proxy:
        return f"the proxy {proxy} is in use, without which requests go where NO_PROXY={_host(location)} is set; else correct the endpoint"
    return (
        "set the endpoint to the server's S3 port (MinIO's console has another, its API 9000 by itself), with https:// where it "
        "wants TLS, and to no address behind a sign-in page"
    )


def _of_proxy(location: S3Location) -> str:
    proxy = _proxy(location)
    return f"; requests go through the proxy {proxy}, unless NO_PROXY={_host(location)} is set" if proxy else ""


def _of_closing(error: Exception, location: S3Location) -> str:
    if isinstance(error, ConnectionClosedError) and (location.endpoint or "").startswith("http://"):
        return "; what closes plain connections may want https://"
    return ""


def _cause(error: Exception, before: str = "") -> str:
    """What the system said, bounded."""
    inner = getattr(error, "kwargs", {}).get("error")
    reason = getattr(inner, "reason", None) or (inner.args[-1] if inner is not None and inner.args else None) or inner
    told = one_line(re.sub(r"^<[^>]*>:? ?|^\w+\([^)]*\): ", "", str(reason or "")), 80)
    return f"{before}{told}" if told else ""


def _endpoint(location: S3Location) -> str:
    return location.endpoint or "https://s3.amazonaws.com"


def _host(location: S3Location) -> str:
    return urlsplit(_endpoint(location)).hostname or ""


def _proxy(location: S3Location) -> str:
    """The proxy that requests go through, without its password; empty where there is none."""
    address = get_environ_proxies(_endpoint(location)).get(urlsplit(_endpoint(location)).scheme, "")
    return origin(address if "://" in address else f"http://{address}") if address else ""

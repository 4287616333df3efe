"""S3 as moto plays it: buckets, objects, and IAM that verifies each signature.

Started as: python stored.py [--objects 250]
Prints {"port":…,"key":"ID:SECRET","temporary":"ID:SECRET:TOKEN","objects":250} when ready. Each line on stdin,
{"put": KEY, "body": TEXT}, writes an object and is answered by a line; the process ends when stdin closes.

Quirks that a connector or a test has to know:
- By default moto verifies nothing. From `reset-auth` on, each request must have a signature that botocore computes too,
  of a key that IAM knows and whose policies allow the action: else 403 SignatureDoesNotMatch, InvalidAccessKeyId or
  AccessDenied.
- It takes the payload's hash from `x-amz-content-sha256`, and compares it with no body.
- It does not care when a request was signed, nor for which region, as long as the signature says the same.
"""

import argparse
import json
import logging
import os
import signal
import sys
import urllib.request

# Until the world is made nobody has to be known. moto reads this once.
os.environ["INITIAL_NO_AUTH_ACTION_COUNT"] = "1000000"

import boto3
from botocore.config import Config
from moto.server import ThreadedMotoServer

BUCKET = "reports"
REGION = "eu-central-1"


def main():
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--objects", type=int, default=250)
    objects = arguments.parse_args().objects

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    endpoint = f"http://127.0.0.1:{port}"

    def client(service, key=("unknown", "unknown")):
        # Retries would hide what goes wrong, and the environment's settings are not this server's.
        config = Config(retries={"total_max_attempts": 1}, proxies={}, s3={"addressing_style": "path"})
        names = ("aws_access_key_id", "aws_secret_access_key", "aws_session_token")
        return boto3.client(service, endpoint_url=endpoint, region_name=REGION, config=config, **dict(zip(names, key)))

    key = user(client("iam"))
    temporary = role(client("iam"), client("sts"))
    store = client("s3", key)
    store.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
    for number in range(objects):
        put(store, f"logs/{number:04}.txt", f"Line {number}")
    put(store, "logs/odd name (1)+ü&=?#.txt", "grüße")
    put(store, "logs/bytes", b"\xff\x00")
    put(store, "logs/large", "x" * 5000)
    put(store, "logs/folder/", "")
    put(store, "elsewhere", "not below the prefix")

    request = urllib.request.Request(f"{endpoint}/moto-api/reset-auth", data=b"0", headers={"content-type": "text/plain"})
    urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request).read()
    say({"port": port, "key": ":".join(key), "temporary": ":".join(temporary), "objects": objects})
    for line in sys.stdin:
        order = json.loads(line)
        put(store, order["put"], order["body"])
        say({"put": order["put"]})
    # Threads of the server may still hold connections; nothing is lost.
    os._exit(0)


def user(iam):
    """A user who may do what the connector asks its owner for, and write, for the tests; the key."""
    iam.create_user(UserName="reader")
    actions = ["s3:ListBucket", "s3:GetObject", "s3:PutObject", "s3:CreateBucket"]
    iam.put_user_policy(UserName="reader", PolicyName="s3", PolicyDocument=policy(actions))
    key = iam.create_access_key(UserName="reader")["AccessKey"]
    return key["AccessKeyId"], key["SecretAccessKey"]


def role(iam, sts):
    """A role that may do what the connector asks its owner for; a temporary key."""
    anyone = {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"AWS": "*"}}
    arn = iam.create_role(RoleName="reader", AssumeRolePolicyDocument=document(anyone))["Role"]["Arn"]
    iam.put_role_policy(RoleName="reader", PolicyName="s3", PolicyDocument=policy(["s3:ListBucket", "s3:GetObject"]))
    key = sts.assume_role(RoleArn=arn, RoleSessionName="peers")["Credentials"]
    return key["AccessKeyId"], key["SecretAccessKey"], key["SessionToken"]


def policy(actions):
    return document({"Effect": "Allow", "Action": actions, "Resource": "*"})


def document(statement):
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def put(store, key, body):
    body = body.encode() if isinstance(body, str) else body
    store.put_object(Bucket=BUCKET, Key=key, Body=body, ContentType="text/plain")


def say(facts):
    print(json.dumps(facts), flush=True)


main()

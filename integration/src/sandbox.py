"""Brings the loopback device up and gives it the addresses named as arguments, or `everything`:
then a local route makes every address this host's own (rtnetlink(7)).

Only Python's standard library: neither iproute2 nor a netlink crate is needed for two messages.
"""
import os
import socket
import struct
import sys

RTM_NEWLINK, RTM_NEWADDR, RTM_NEWROUTE, NLMSG_ERROR = 16, 20, 24, 2
REQUEST, ACK, CREATE = 0x1, 0x4, 0x400
LOOPBACK, UP = 1, 1
# Of duplicate addresses, which would keep an IPv6 address from use for a second.
NO_DETECTION = 2
IFA_ADDRESS, IFA_LOCAL = 1, 2
RTA_OIF, TABLE_MAIN, PROTOCOL_BOOT, SCOPE_HOST, TYPE_LOCAL = 4, 254, 3, 254, 2


def send(kernel, kind, flags, body):
    kernel.send(struct.pack("=IHHII", 16 + len(body), kind, REQUEST | ACK | flags, 1, 0) + body)
    answer = kernel.recv(65536)
    (code,) = struct.unpack_from("=i", answer, 16)
    if struct.unpack_from("=H", answer, 4)[0] == NLMSG_ERROR and code:
        raise OSError(-code, os.strerror(-code))


def main():
    kernel = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
    send(kernel, RTM_NEWLINK, 0, struct.pack("=BBHiII", 0, 0, 0, LOOPBACK, UP, UP))
    if sys.argv[1:] == ["everything"]:
        for family in (socket.AF_INET, socket.AF_INET6):
            route = struct.pack(
                "=BBBBBBBBI", family, 0, 0, 0, TABLE_MAIN, PROTOCOL_BOOT, SCOPE_HOST, TYPE_LOCAL, 0
            )
            send(kernel, RTM_NEWROUTE, CREATE, route + struct.pack("=HHI", 8, RTA_OIF, LOOPBACK))
        return
    for text in sys.argv[1:]:
        family = socket.AF_INET6 if ":" in text else socket.AF_INET
        address = socket.inet_pton(family, text)
        attributes = b"".join(
            struct.pack("=HH", 4 + len(address), kind) + address for kind in (IFA_LOCAL, IFA_ADDRESS)
        )
        prefix = 8 * len(address)
        header = struct.pack("=BBBBI", family, prefix, NO_DETECTION, 0, LOOPBACK)
        send(kernel, RTM_NEWADDR, CREATE, header + attributes)


main()

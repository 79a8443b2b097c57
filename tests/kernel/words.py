# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The vocabulary of the packet filters: conditions of iptables and nft, one each, for tests.kernel.vocabulary.

MATCHES and TARGETS name every extension that Debian's iptables ships.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

#: Where a rule is looked at, by its letter.
HOOKS = {"i": "input", "f": "forward", "o": "output"}

#: Matches whose answer depends on more than the packet, or that are known and not followed, and options of others: "may".
MAY = (
    *(f"-m {name} " for name in (
        "bpf", "cluster", "connbytes", "connlimit", "hashlimit", "limit", "nfacct", "quota", "rateest", "recent", "statistic",
        "string", "time", "u32", "connlabel", "eui64", "ipv6header", "ipvs", "osf", "policy", "socket", "cgroup", "cpu",
        "devgroup", "helper", "realm", "tcpmss",
    )),
    "--ctstate INVALID --ctproto", "! --ctstate NEW --ctproto", "--ctrepl", "--ctstatus NONE", "--ctexpire", "--tcp-option",
    "--chunk-types", "--packets-gt", "--socket-exists",
    "--ctorigdstport", "--ctorigsrcport", "! --icmp-type any", "--icmpv6-type 255",  # where it is ICMP
)  # fmt: skip
#: The same of nft, by how a rule begins.
NFT_MAY = (
    "tcp window", "tcp sequence", "tcp doff", "tcp checksum", "tcp option", "udp length", "ip hdrlength", "ip id", "ip checksum",
    "ip6 length", "ip6 flowlabel", "icmp type { echo-reply, echo-request } icmp id", "@", "meta priority", "meta cpu",
    "meta random", "meta day", "meta hour", "meta time", "meta cgroup", "meta iiftype", "meta oiftype", "iifgroup", "oifgroup",
    "meta nftrace", "ct reply", "ct expiration", "ct helper", "ct bytes", "ct original packets", "ct avgpkt", "ct zone", "ct id",
    "ct label", "ct count", "hbh nexthdr", "numgen", "jhash", "symhash", "limit", "quota", "rt ", "osf", "vlan", "socket",
    "iifkind",
    "th ", "ip saddr . th ",  # where these bytes are no port
)  # fmt: skip
#: Families, hooks, rule: at least one for each match that Debian's iptables has, but rpfilter (of prerouting: the random rulesets
#: have it).
_MATCHES = r"""
46 if  -m addrtype --dst-type LOCAL
46 if  -m addrtype ! --dst-type LOCAL
46 ifo -m addrtype --dst-type UNICAST
4  ifo -m addrtype --src-type LOCAL,UNICAST
46 i   -m addrtype --dst-type LOCAL --limit-iface-in
46 ifo -m addrtype --src-type LOCAL
4  ifo -p ah -m ah --ahspi 1:5
6  ifo -m ah
6  ifo -m ah --ahspi 5
46 ifo -m bpf --bytecode "1,6 0 0 65535"
46 o   -m cgroup --cgroup 5
4  i   -m cluster --cluster-total-nodes 2 --cluster-local-node 1 --cluster-hash-seed 7
46 ifo -m comment --comment "words -m tcp ! -j DROP"
46 ifo -m connbytes --connbytes 0:1 --connbytes-mode packets --connbytes-dir both
46 ifo -m connlabel --label 5
46 ifo -m connlimit --connlimit-above 5 --connlimit-mask 32 --connlimit-saddr
46 ifo -m connmark --mark 0x0
46 ifo -m connmark ! --mark 0x0
46 ifo -m connmark --mark 0x1/0x1
46 ifo -m conntrack --ctstate NEW
46 ifo -m conntrack ! --ctstate NEW
46 ifo -m conntrack --ctstate INVALID
46 ifo -m conntrack --ctstate RELATED,ESTABLISHED
46 ifo -m conntrack --ctstate RELATED,ESTABLISHED,DNAT
46 ifo -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT
46 ifo -m conntrack --ctstate DNAT
46 ifo -m conntrack ! --ctstate DNAT
46 ifo -m conntrack --ctstate SNAT
46 ifo -m conntrack --ctstate INVALID --ctproto 17
46 ifo -m conntrack ! --ctstate NEW --ctproto 17
46 ifo -m conntrack --ctstate NEW --ctproto 17
46 ifo -m conntrack ! --ctproto 6
46 ifo -m conntrack --ctdir ORIGINAL
46 ifo -m conntrack --ctdir REPLY
4  ifo -m conntrack --ctorigsrc 10.77.0.0/24
4  ifo -m conntrack ! --ctorigsrc 10.77.0.0/24
6  ifo -m conntrack --ctorigdst fd78::/64
46 ifo -m conntrack --ctorigdstport 1678
46 ifo -m conntrack ! --ctorigsrcport 20000:20003
4  ifo -m conntrack --ctrepldst 10.77.0.1
46 ifo -m conntrack --ctstatus NONE
46 ifo -m conntrack --ctstatus SEEN_REPLY
46 ifo -m conntrack --ctexpire 5
46 ifo -m state --state NEW,RELATED
46 ifo -m state ! --state NEW
46 ifo -m cpu --cpu 0
46 ifo -p dccp -m dccp --dport 5
46 if  -m devgroup --src-group 0x0
46 ifo -m dscp --dscp 0x2e
46 ifo -m dscp ! --dscp 0x00
6  ifo -m dst
6  ifo -m dst --dst-len 5
46 ifo -m ecn --ecn-ip-ect 3
46 ifo -m ecn ! --ecn-ip-ect 0
46 ifo -p tcp -m ecn --ecn-tcp-ece
46 ifo -p tcp -m ecn ! --ecn-tcp-cwr
46 ifo -p esp -m esp --espspi 5:10
46 ifo -p esp -m esp
6  if  -m eui64
6  ifo -m frag --fragmore
6  ifo -m frag
46 ifo -m hashlimit --hashlimit-upto 1/sec --hashlimit-burst 5 --hashlimit-mode srcip --hashlimit-name words
6  ifo -m hbh
6  ifo -m hbh --hbh-len 8
46 ifo -m helper --helper ftp
6  ifo -m hl --hl-eq 64
6  ifo -m hl --hl-lt 64
6  ifo -m hl --hl-gt 10
6  ifo -m hl ! --hl-eq 63
4  ifo -p icmp -m icmp --icmp-type 8
4  ifo -p icmp -m icmp --icmp-type any
4  ifo -p icmp -m icmp ! --icmp-type 8
4  ifo -p icmp -m icmp ! --icmp-type any
4  ifo -p icmp -m icmp --icmp-type 3/1
4  ifo -p icmp -m icmp ! --icmp-type 8/0
4  ifo -p icmp -m icmp ! --icmp-type 8/1
4  ifo -p icmp -m icmp --icmp-type 8/0
6  ifo -p ipv6-icmp -m icmp6 --icmpv6-type 128
6  ifo -p ipv6-icmp -m icmp6 ! --icmpv6-type 128
6  ifo -p ipv6-icmp -m icmp6 ! --icmpv6-type 1/4
6  ifo -p ipv6-icmp -m icmp6 --icmpv6-type 255
46 ifo -p ipcomp -m ipcomp --ipcompspi 5:9
4  ifo -m iprange --src-range 10.77.0.1-10.77.0.4
4  ifo -m iprange ! --src-range 10.77.0.1-10.77.0.4 --dst-range 10.78.0.1-10.78.0.9
6  ifo -m iprange --src-range fd77::1-fd77::4
6  ifo -m iprange ! --dst-range fd78::1-fd78::9
6  ifo -m ipv6header --header frag --soft
46 ifo -m ipvs --ipvs
46 ifo -m length --length 0:40
46 ifo -m length ! --length 41:
46 ifo -m length --length 60
46 ifo -m limit --limit 1/hour --limit-burst 1
46 if  -m mac --mac-source 02:00:00:00:00:01
46 if  -m mac ! --mac-source 02:00:00:00:00:01
46 ifo -m mark --mark 0x1
46 ifo -m mark ! --mark 0x1/0x3
46 ifo -m mark --mark 0x0
6  ifo -p ipv6-mh -m mh --mh-type 1
46 ifo -p tcp -m multiport --ports 1678,80
46 ifo -p tcp -m multiport ! --ports 1678,80
46 ifo -p udp -m multiport --ports 50:60,1678
46 ifo -p sctp -m multiport --ports 1678
46 ifo -p tcp -m multiport --sports 80,1678
46 ifo -p udp -m multiport ! --dports 1678,9:99
46 ifo -m nfacct --nfacct-name words
4  if  -p tcp -m osf --genre Linux
46 o   -m owner --uid-owner 0
46 o   -m owner ! --uid-owner 0
46 o   -m owner --gid-owner 5-9
46 o   -m owner --socket-exists
46 o   -m owner --uid-owner 0 ! --gid-owner 0
46 if  -m physdev --physdev-in ma
46 f   -m physdev ! --physdev-is-bridged
46 if  -m pkttype --pkt-type unicast
46 if  -m pkttype ! --pkt-type multicast
46 if  -m policy --dir in --pol none
46 if  -m policy --dir in --pol ipsec
46 ifo -m quota --quota 100000
46 ifo -m rateest --rateest words --rateest-lt --rateest-bps 5bit
4  if  -m realm --realm 0x5
46 ifo -m recent --rcheck --name words --mask 255.255.255.255 --rsource
6  ifo -m rt
6  ifo -m rt --rt-type 0
46 if  -p sctp -m sctp --dport 1678
46 if  -p sctp -m sctp --chunk-types any INIT
46 ifo -m set --match-set ip{f} src
46 ifo -m set ! --match-set ip{f} src
46 ifo -m set --match-set net{f} src
46 ifo -m set --match-set net{f} src --return-nomatch
46 ifo -m set ! --match-set net{f} src --return-nomatch
46 ifo -m set --match-set ip{f} src --return-nomatch
46 ifo -m set --match-set np{f} src,dst --return-nomatch
46 ifo -m set --match-set np{f} src,dst
46 ifo -m set --match-set list{f} src --return-nomatch
46 ifo -m set --match-set list{f} src,dst
46 if -m set --match-set macs{f} src
46 if -m set --match-set ipmac{f} src,src
46 if -m set ! --match-set ipmac{f} src,src
46 if -m set --match-set iface{f} src,src
46 if -m set --match-set iface{f} src,dst
46 if -m set --match-set wild{f} src,src
46 if -m set --match-set wild{f} src,src --return-nomatch
46 ifo -m set --match-set ipmark{f} src,src
46 ifo -m set --match-set trio{f} src,dst,dst
46 ifo -m set ! --match-set trio{f} src,dst,dst
46 ifo -m set --match-set trio{f} dst,src,src
46 ifo -m set --match-set ipn{f} src,dst,dst
46 ifo -m set --match-set ipn{f} src,dst,dst --return-nomatch
46 ifo -m set --match-set npn{f} src,dst,dst
46 ifo -m set --match-set npn{f} src,dst,dst --return-nomatch
46 ifo -m set --match-set nn{f} src,dst
46 ifo -m set --match-set ports{f} dst
46 ifo -m set --match-set ports{f} src
46 ifo -m set --match-set late{f} src
4 ifo -m set --match-set small{f} src
4 ifo -m set ! --match-set small{f} src
4 if -m set --match-set smallmac{f} src,src
46 ifo -m set --match-set list{f} src,dst --return-nomatch
46 ifo -m set --match-set ip{f} src ! --update-counters
46 ifo -m set --match-set ip{f} src --packets-gt 5
46 i   -m socket --nowildcard
6  ifo -m srh --srh-segs-left-eq 0
46 ifo -m statistic --mode nth --every 2 --packet 0
46 ifo -m string --string "words ! -j DROP" --algo bm --to 100
46 ifo -p tcp -m tcp --dport 1678
46 ifo -p tcp -m tcp ! --sport 80:20000
46 ifo -p tcp -m tcp --syn
46 ifo -p tcp -m tcp ! --syn
46 ifo -p tcp -m tcp --tcp-flags ALL SYN
46 ifo -p tcp -m tcp --tcp-flags SYN,ACK NONE
46 ifo -p tcp -m tcp ! --tcp-flags FIN,SYN,RST,ACK SYN
46 ifo -p tcp -m tcp --dport 1678 --tcp-option 2
46 ifo -p tcp -m tcp --dport 1678 ! --tcp-option 2
46 ifo ! -p tcp
46 ifo -p 17
46 ifo -p all
46 ifo -p tcp -m tcp --syn -m tcpmss --mss 100:1500
46 ifo -m time --timestart 01:00:00 --timestop 02:00:00 --datestop 2038-01-19T03:14:07
46 ifo -m tos --tos 0x20/0xff
46 ifo -m tos ! --tos 0x00
46 ifo -m tos --tos 0x08/0x0c
4  ifo -m ttl --ttl-eq 64
4  ifo -m ttl --ttl-lt 64
4  ifo -m ttl --ttl-gt 10
4  ifo -m ttl ! --ttl-eq 63
46 ifo -m u32 --u32 "0x0>>0x1c=0x4"
46 ifo -p udp -m udp --sport 53
46 ifo -p udp -m udp ! --dport 1:2000
46 ifo -p udp -m udp
4  ifo -s 10.77.0.0/29
4  ifo ! -s 10.77.0.1
4  ifo -s 10.0.0.5/255.0.0.255
4  ifo ! -d 10.78.0.0/24
6  ifo -s fd77::/125
6  ifo ! -s fd77::1
4  ifo -f
4  ifo ! -f
46 if  -i ma
46 if  ! -i m+
46 if  -i +
46 fo  -o mb
46 fo  ! -o mb
"""

#: The last word on a target with its rules behind it, on a port of its own: target, families, table, chain, rules.
#: What goes on meets the DROP.
_TARGETS = r"""
AUDIT 46 mangle PREROUTING -j AUDIT --type accept ; -j DROP
CHECKSUM 46 mangle PREROUTING -j CHECKSUM --checksum-fill ; -j DROP
CLASSIFY 46 mangle FORWARD -j CLASSIFY --set-class 1:1 ; -j DROP
CLUSTERIP 4 filter INPUT -j CLUSTERIP --new --hashmode sourceip --clustermac 01:00:5e:00:00:01 --total-nodes 2
  --local-node 1 ; -j DROP
CONNMARK 46 mangle PREROUTING -j CONNMARK --set-xmark 0x5/0xf ; -m connmark --mark 0x5 -j DROP
CONNMARK 46 mangle PREROUTING -j MARK --set-xmark 0x7/0xffffffff ; -j CONNMARK --save-mark --nfmask 0x3 --ctmask 0xff ;
  -m connmark --mark 0x3 -j DROP
CONNSECMARK 46 mangle PREROUTING -j CONNSECMARK --save ; -j DROP
CT 46 raw PREROUTING -j CT --notrack ; -j DROP
CT 46 raw PREROUTING -j CT --zone 5 ; -j DROP
CT 46 raw PREROUTING -j CT --notrack ; -m conntrack --ctstate UNTRACKED -j DROP
DNPT 6 mangle PREROUTING -j DNPT --src-pfx fd77::/64 --dst-pfx fd78::/64 ; -j DROP
DSCP 46 mangle PREROUTING -j DSCP --set-dscp 0x08 ; -m dscp ! --dscp 0x2e -j DROP
ECN 4 mangle PREROUTING -j ECN --ecn-tcp-remove ; -m ecn --ecn-tcp-ece -j DROP
HL 6 mangle PREROUTING -j HL --hl-set 70 ; -m hl --hl-gt 60 -j DROP
HMARK 46 mangle PREROUTING -j HMARK --hmark-tuple src,dst --hmark-mod 2 --hmark-offset 5 --hmark-rnd 1 ;
  -m mark ! --mark 0x0 -j DROP
IDLETIMER 46 mangle PREROUTING -j IDLETIMER --timeout 900 --label words{family} ; -j DROP
LED 46 mangle PREROUTING -j LED --led-trigger-id words{family} ; -j DROP
LOG 46 mangle PREROUTING -j LOG --log-prefix "words -j DROP " ; -j DROP
MARK 46 mangle PREROUTING -j MARK --set-xmark 0x5/0xffffffff ; -m mark --mark 0x5 -j DROP
MARK 46 mangle PREROUTING -j MARK --set-xmark 0x5/0x0 ; -m mark --mark 0x4/0x4 -j DROP
NFLOG 46 mangle PREROUTING -j NFLOG --nflog-group 5 ; -j DROP
NFQUEUE 46 mangle PREROUTING -j NFQUEUE --queue-num 5 ; -j DROP
NFQUEUE 46 mangle PREROUTING -j NFQUEUE --queue-num 5 --queue-bypass
NOTRACK 46 raw PREROUTING -j NOTRACK ; -j DROP
RATEEST 46 mangle PREROUTING -j RATEEST --rateest-name words{family} --rateest-interval 250ms --rateest-ewmalog 500ms ; -j DROP
REJECT 46 filter INPUT -j REJECT
SECMARK 46 mangle PREROUTING -j SECMARK --selctx words ; -j DROP
SET 46 mangle PREROUTING -j SET --add-set empty{family} src ; -m set --match-set empty{family} src -j DROP
SET 46 mangle PREROUTING -j SET --del-set full{family} src ; -m set ! --match-set full{family} src -j DROP
SET 46 mangle PREROUTING -j SET --map-set marks{family} src --map-mark ; -m mark --mark 0x9 -j DROP
SET 46 mangle PREROUTING -j SET --add-set inner{family} src ; -m set --match-set outer{family} src -j DROP
SNPT 6 mangle INPUT -j SNPT --src-pfx fd77::/64 --dst-pfx fd78::/64 ; -j DROP
SYNPROXY 46 filter INPUT -m conntrack --ctstate INVALID,UNTRACKED,NEW -j SYNPROXY --sack-perm --mss 1460 ; -j DROP
TCPMSS 46 mangle FORWARD --tcp-flags SYN,RST SYN -j TCPMSS --set-mss 1000 ; -j DROP
TCPOPTSTRIP 46 mangle PREROUTING -j TCPOPTSTRIP --strip-options 8 ; -j DROP
TEE 4 mangle PREROUTING -j TEE --gateway 10.77.0.3 ; -j DROP
TOS 46 mangle PREROUTING -j TOS --set-tos 0x10/0xff ; -m tos --tos 0x10/0xff -j DROP
TPROXY 46 mangle PREROUTING -j TPROXY --on-port 5 --on-ip {any} ; -j DROP
TRACE 46 raw PREROUTING -j TRACE ; -j DROP
TTL 4 mangle PREROUTING -j TTL --ttl-set 70 ; -m ttl --ttl-gt 60 -j DROP
standard 46 filter INPUT -j RETURN ; -j DROP
standard 46 filter INPUT -j ACCEPT ; -j DROP
"""
#: Of these a verdict is not known where the target may end the packet's way, or changes what is not followed.
MAY_TARGETS = ("CLUSTERIP", "NFQUEUE", "SYNPROXY", "TPROXY", "SET", "HMARK", "TTL", "HL", "TOS", "DSCP")
_TCP = ("ECN", "SYNPROXY", "TCPMSS", "TCPOPTSTRIP", "TPROXY")

_LINES = re.sub(r"\n +", " ", _TARGETS).strip().splitlines()

#: Statements of nft, as the targets: name, families, chain, rules. {ip} is the family's word, {f} its number.
_STATEMENTS = r"""
accept 46 in accept ; drop
drop 46 in drop
continue 46 in continue ; drop
return 46 in return ; drop
reject 46 in reject
reject 46 in reject with icmpx type admin-prohibited
jump 46 in jump ends
goto 46 in goto nowhere ; drop
queue 46 in queue num 5 ; drop
queue 46 in queue num 5 bypass
notrack 46 raw notrack ; ct state untracked drop
zone 46 raw ct zone set 5 ; drop
mark 46 pre meta mark set 0x5 ; meta mark 0x5 drop
mark 46 pre meta mark set meta mark or 0x10 ; meta mark & 0x10 == 0x10 drop
mark 46 pre meta mark set udp dport map {{ 1 : 5, 3000-4000 : 6 }} ; meta mark 6 drop
ctmark 46 pre ct mark set 0x7 ; ct mark 0x7 drop
ctmark 46 pre ct mark set 0x7 ; meta mark set ct mark and 0x3 ; meta mark 0x3 drop
label 46 pre ct label set 5 ; drop
event 46 pre ct event set new ; drop
priority 46 pre meta priority set 1:5 ; drop
trace 46 pre meta nftrace set 1 ; drop
dscp 4 pre ip dscp set cs1 ; ip dscp cs1 drop
dscp 6 pre ip6 dscp set cs1 ; ip6 dscp cs1 drop
ttl 4 pre ip ttl set 70 ; ip ttl 70 drop
ttl 6 pre ip6 hoplimit set 70 ; ip6 hoplimit > 64 drop
address 4 pre ip saddr set 10.77.0.9 ; ip saddr 10.77.0.9 drop
add 46 pre add @seen{f} {{ {ip} saddr }} ; {ip} saddr @seen{f} drop
update 46 pre update @seen{f} {{ {ip} saddr timeout 60s }} ; {ip} saddr @seen{f} drop
delete 46 pre delete @full{f} {{ {ip} saddr }} ; {ip} saddr != @full{f} drop
over 46 pre add @many{f} {{ {ip} saddr limit rate over 1/hour burst 1 packets }} drop
meter 46 pre meter words{f} {{ {ip} saddr limit rate 1/hour burst 1 packets }} drop
limit 46 pre limit rate 1/hour burst 1 packets drop
quota 46 pre quota over 1 mbytes drop
numgen 46 pre numgen inc mod 2 vmap {{ 0 : drop, 1 : accept }}
numgen 46 pre numgen random mod 2 vmap {{ 0 : drop, 1 : drop }}
jhash 46 pre jhash {ip} saddr mod 2 seed 0x5 vmap {{ 0 : drop, 1 : accept }}
vmap 46 pre udp dport vmap {{ 5 : accept, 3000-4000 : drop }}
vmap 46 pre {ip} saddr . udp dport vmap {{ {one} . 3000-4000 : drop }}
vmap 46 pre {ip} saddr . udp dport vmap @ports{f}
log 46 pre log prefix "words drop " ; drop
dup 4 pre dup to 10.77.0.3 ; drop
tproxy 46 pre tproxy {ip} to :5 ; drop
flow 46 through flow add @flows ; drop
synproxy 46 in synproxy mss 1460 sack-perm ; drop
"""
MAY_STATEMENTS = (
    "queue", "add", "update", "delete", "over", "meter", "limit", "quota", "numgen", "jhash", "tproxy", "flow", "synproxy",
)  # fmt: skip
STATEMENT_CHAINS = """
chain ends { counter drop; }
chain nowhere { counter; }
chain raw { type filter hook prerouting priority -300; }
chain pre { type filter hook prerouting priority -150; }
chain in { type filter hook input priority 0; }
chain through { type filter hook forward priority 0; }
flowtable flows { hook ingress priority 0; devices = { ma, mb }; }
""" + "".join(
    f"""set seen{number} {{ type {kind}; flags dynamic, timeout; size 100; }}
set full{number} {{ type {kind}; flags dynamic; size 100; elements = {{ {one} }}; }}
set many{number} {{ type {kind}; flags dynamic; size 100; }}
map ports{number} {{ type {kind} . inet_service : verdict; flags interval; elements = {{ {one} . 3000-4000 : drop }}; }}
"""
    for number, kind, one in ((4, "ipv4_addr", "10.77.0.5"), (6, "ipv6_addr", "fd77::5"))
)

#: Hooks and rule.
_NFT = r"""
ifo ip saddr 10.77.0.1
ifo ip saddr != 10.77.0.1
ifo ip saddr 10.77.0.0/29
ifo ip saddr != 10.77.0.0/29
ifo ip saddr 10.77.0.2-10.77.0.9
ifo ip saddr & 255.255.255.0 == 10.77.0.0
ifo ip saddr & 0.0.0.255 != 5
ifo ip saddr { 10.77.0.1, 10.91.0.0/16 }
ifo ip saddr != { 10.77.0.1 }
ifo ip saddr @hosts
ifo ip saddr != @hosts
ifo ip saddr @nothing
ifo ip saddr != @nothing
ifo ip saddr > 10.77.0.4
ifo ip saddr <= 10.77.0.4
ifo ip6 saddr fd77::1
ifo ip6 saddr != fd77::/64
ifo ip6 saddr { fd77::5, fd91::/16 }
ifo ip6 saddr & ffff:: == fd77::
ifo ip daddr . tcp dport { 10.78.0.5 . 1678, 10.77.0.2 . 1678 }
ifo ip saddr . th dport @pairs
ifo ip saddr . th dport != @pairs
ifo meta l4proto . ip6 saddr . th dport @trios
ifo ip saddr . ip daddr . udp dport { 10.0.0.0/8 . 10.64.0.0/10 . 1-65535 }
ifo tcp dport 1678
ifo tcp dport != 1678
ifo tcp dport 1000-2000
ifo tcp dport != 1000-2000
ifo tcp dport { 22, 1000-2000 }
ifo tcp dport @ports
ifo tcp dport @spans
ifo tcp dport != @spans
ifo tcp sport 80
ifo udp dport 1678
ifo udp sport @ports
ifo sctp dport 1678
ifo sctp sport != 5
ifo th dport 1678
ifo th sport @spans
ifo tcp dport & 1 == 1
ifo tcp dport >= 1678
ifo dccp dport 5
ifo udplite dport 5
ifo tcp flags syn
ifo tcp flags == syn
ifo tcp flags != syn
ifo tcp flags & (syn | ack) == syn
ifo tcp flags & (fin | syn | rst | ack) != syn
ifo tcp flags syn / syn,ack
ifo tcp flags { syn, syn | ack }
ifo tcp flags ! ack
ifo tcp flags ack,ecn
ifo tcp flags & ecn == ecn
ifo tcp flags & (syn | cwr) == syn | cwr
ifo tcp window 1024
ifo tcp sequence 5
ifo tcp doff 5
ifo tcp checksum != 0
ifo tcp option maxseg exists
ifo tcp option maxseg size 1-500
ifo udp length 12
ifo udp length > 12
ifo ip protocol tcp
ifo ip protocol != { tcp, udp }
ifo ip6 nexthdr udp
ifo ip ttl 64
ifo ip ttl < 64
ifo ip6 hoplimit != 64
ifo ip dscp ef
ifo ip dscp != cs0
ifo ip6 dscp cs1
ifo ip ecn ce
ifo ip6 ecn not-ect
ifo ip length 40
ifo ip length > 40
ifo ip version 4
ifo ip hdrlength 5
ifo ip frag-off & 0x1fff == 0
ifo ip frag-off & 0x2000 != 0
ifo ip id 7
ifo ip6 length > 8
ifo ip6 flowlabel 0
ifo ip6 version 6
ifo ip checksum != 0
ifo @nh,72,8 6
ifo @th,16,16 1678
ifo icmp type echo-request
ifo icmp type != echo-request
ifo icmp type { echo-reply, echo-request }
ifo icmp code 0
ifo icmp id 5
ifo icmpv6 type echo-request
ifo icmpv6 code != 0
ifo icmpv6 type { nd-neighbor-solicit, nd-router-advert }
ifo meta l4proto tcp
ifo meta l4proto != tcp
ifo meta l4proto { icmp, ipv6-icmp }
ifo meta nfproto ipv6
ifo meta protocol ip
ifo meta protocol { ip, ip6 }
ifo meta length 40
ifo meta length 1-60
ifo meta mark 1
ifo meta mark & 0x3 == 0x1
ifo meta mark != 0
ifo meta mark & 0x10 == 0x10
ifo meta mark < 2
ifo meta mark { 1, 0x12 }
ifo meta priority 0
ifo meta cpu 0
ifo meta random > 5
ifo meta day Monday
ifo meta hour 01:00-02:00
ifo meta time > 5
ifo meta cgroup 5
ifo meta nftrace 0
ifo ct state new
ifo ct state != new
ifo ct state { new, established }
ifo ct state established,related
ifo ct state invalid
ifo ct state untracked
ifo ct state ! new
ifo ct state != established
ifo ct state invalid,new
ifo ct direction original
ifo ct direction reply
ifo ct direction != reply
ifo ct status dnat
ifo ct status != dnat
ifo ct status confirmed
ifo ct status ! dnat
ifo ct mark 0
ifo ct mark != 0
ifo ct mark & 1 == 1
ifo ct l3proto ipv4
ifo ct protocol tcp
ifo ct original protocol udp
ifo ct original ip saddr 10.77.0.0/24
ifo ct original ip6 daddr != fd77::2
ifo ct original proto-dst 1678
ifo ct original proto-src != 80
ifo ct reply ip saddr 10.78.0.5
ifo ct reply proto-dst 20000
ifo ct expiration > 1s
ifo ct helper "ftp"
ifo ct bytes > 5
ifo ct original packets > 5
ifo ct avgpkt > 5
ifo ct zone 0
ifo ct id 5
ifo ct label 5
ifo ct state . ct mark { new . 0 }
ifo ct state . tcp dport { new . 1678, invalid . 22 }
ifo exthdr hbh exists
ifo exthdr frag missing
ifo exthdr rt exists
ifo frag more-fragments 1
ifo rt type 0
ifo hbh nexthdr 6
ifo numgen random mod 2 0
ifo numgen inc mod 3 < 2
ifo jhash ip saddr mod 2 seed 0x7 0
ifo symhash mod 2 1
ifo limit rate 1/hour burst 1 packets
ifo limit rate over 10 mbytes/second
ifo quota over 5 mbytes
ifo quota until 5 mbytes
ifo ct count over 5
ifo rt classid 5
ifo rt ip nexthop 10.78.0.5
ifo rt ip6 nexthop fd78::5
ifo rt mtu 1500
ifo rt ipsec missing
ifo osf name "Linux"
ifo esp spi 5
ifo ah spi 5
ifo comp cpi 5
ifo igmp type 0x11
ifo arp operation request
ifo arp saddr ip 10.77.0.1
if  iif ma
if  iif != ma
if  iif lo
if  iifname "ma"
if  iifname "m*"
if  iifname != "m*"
if  iifname { "ma", "mb" }
if  iifname @links
if  iifname != @links
if  iiftype ether
if  iifgroup 0
if  iifkind "veth"
if  iifname . meta l4proto { "ma" . tcp }
if  ether saddr 02:00:00:00:00:01
if  ether saddr != 02:00:00:00:00:01
if  ether daddr { 02:00:00:00:00:11, 02:00:00:00:00:12 }
if  ether type ip
if  ether type != ip
if  vlan id 5
if  meta pkttype host
if  meta pkttype != { broadcast, multicast }
if  ip saddr . iifname { 10.77.0.1 . "ma", 10.77.0.5 . "mb" }
i   fib daddr type local
i   fib daddr type != local
i   fib saddr type local
i   fib daddr . iif type local
i   fib saddr oif exists
i   fib saddr . iif oif missing
i   fib saddr . iif oif != 0
i   fib saddr oifname "ma"
i   fib daddr type { local, broadcast }
i   socket transparent 1
i   socket wildcard 0
i   socket mark 5
i   socket cgroupv2 level 1 "words"
fo  oif mb
fo  oif != mb
fo  oifname "mb"
fo  oifname != { "ma", "lo" }
fo  oifgroup 0
fo  oiftype ether
o   meta skuid 0
o   meta skuid != 0
o   meta skgid 1-5
o   oifname . meta skuid { "mb" . 0 }
"""

IPSETS = {
    number: f"""create ip{number} hash:ip family {word}
add ip{number} {one}
create net{number} hash:net family {word}
add net{number} {wide}
add net{number} {some} nomatch
add net{number} {one}
create np{number} hash:net,port family {word}
add np{number} {wide},tcp:1678
add np{number} {some},tcp:1678 nomatch
add np{number} {some},udp:1678 nomatch
create list{number} list:set
add list{number} np{number}
add list{number} net{number}
create macs{number} hash:mac
add macs{number} 02:00:00:00:00:01
create ipmac{number} hash:ip,mac family {word}
add ipmac{number} {one},02:00:00:00:00:01
add ipmac{number} {other},02:00:00:00:00:02
create iface{number} hash:net,iface family {word}
add iface{number} {some},ma
add iface{number} {one},mb
create wild{number} hash:net,iface family {word}
add wild{number} {wide},m wildcard
add wild{number} {one},m wildcard nomatch
add wild{number} {other},l wildcard
create ipmark{number} hash:ip,mark family {word}
add ipmark{number} {one},0
add ipmark{number} {out},1
create trio{number} hash:ip,port,ip family {word}
add trio{number} {other},tcp:1678,{here}
add trio{number} {other},tcp:1678,{there}
create ipn{number} hash:ip,port,net family {word}
add ipn{number} {one},udp:1678,{around}
add ipn{number} {other},tcp:1678,{around} nomatch
create npn{number} hash:net,port,net family {word}
add npn{number} {some},tcp:1-2000,{around}
add npn{number} {some},udp:1678,{around} nomatch
create nn{number} hash:net,net family {word}
add nn{number} {some},{around}
create ports{number} bitmap:port range 0-9000
add ports{number} 1678
add ports{number} 50-60
create late{number} hash:ip family {word} timeout 900
add late{number} {one}
add late{number} {other} timeout 0
create small{number} bitmap:ip range 10.77.0.0/24
add small{number} 10.77.0.1
create smallmac{number} bitmap:ip,mac range 10.77.0.0/24
add smallmac{number} 10.77.0.1,02:00:00:00:00:01
add smallmac{number} 10.77.0.5,02:00:00:00:00:02
create empty{number} hash:ip family {word}
create full{number} hash:net family {word}
add full{number} {one}
create inner{number} hash:ip family {word}
create outer{number} list:set
add outer{number} inner{number}
create marks{number} hash:ip family {word} skbinfo
add marks{number} {one} skbmark 0x9/0xffffffff
"""
    for number, word, wide, some, one, other, here, there, around, out in (
        (
            4,
            "inet",
            "10.0.0.0/8",
            "10.77.0.0/24",
            "10.77.0.5",
            "10.77.0.1",
            "10.77.0.2",
            "10.78.0.5",
            "10.64.0.0/10",
            "10.78.0.2",
        ),
        (6, "inet6", "fd00::/8", "fd77::/64", "fd77::5", "fd77::1", "fd77::2", "fd78::5", "fd70::/12", "fd78::2"),
    )
}

NFT_SETS = """set ports { type inet_service; elements = { 53, 1678 }; }
set spans { type inet_service; flags interval; elements = { 50-60, 1000-2000 }; }
set hosts { type ipv4_addr; flags interval; elements = { 10.77.0.0/29, 10.90.0.0/16 }; }
set pairs { type ipv4_addr . inet_service; flags interval; elements = { 10.77.0.0/24 . 1000-2000,
  10.91.0.0-10.91.255.255 . 22 }; }
set trios { type inet_proto . ipv6_addr . inet_service; flags interval; elements = { tcp . fd77::/64 . 1-2000,
  udp . ::/0 . 53 }; }
set links { type ifname; elements = { "ma", "lo" }; }
set nothing { type ipv4_addr; }"""


def iptables(number: int, hook: str) -> list[str]:
    """Conditions for a family and a hook."""
    found = []
    for line in _MATCHES.strip().splitlines():
        families, hooks, rule = line.split(maxsplit=2)
        if str(number) in families and hook[0] in hooks:
            found.append(rule.format(f=number))
    return found


def nft(hook: str) -> list[str]:
    lines = (line.split(maxsplit=1) for line in _NFT.strip().splitlines())
    return [rule for hooks, rule in lines if hook[0] in hooks]


MATCHES = frozenset(re.findall(r"-m (\w+)", _MATCHES)) | {"rpfilter", "standard"}
#: Those of table nat are in the random rulesets. ULOG is gone from the kernel, and read as LOG is.
TARGETS = frozenset(line.split(" ")[0] for line in _LINES) | {
    "DNAT", "SNAT", "MASQUERADE", "REDIRECT", "NETMAP", "NAT", "ULOG",
}  # fmt: skip


@dataclass
class Entry:
    """A target with its rules, on a port of its own."""

    target: str
    family: int
    table: str
    chain: str
    port: int
    rules: list[str]
    tcp: bool


def targets() -> list[Entry]:
    found: list[Entry] = []
    for line in _LINES:
        target, families, table, chain, rules = line.split(maxsplit=4)
        for family in map(int, families):
            port, tcp = 3000 + len(found), target in _TCP
            head = f"-A {chain} -p {'tcp -m tcp' if tcp else 'udp -m udp'} --dport {port} "
            names = {"family": family, "any": "0.0.0.0" if family == 4 else "::"}
            made = [head + one.format(**names) for one in rules.split(" ; ")]
            found.append(Entry(target, family, table, chain, port, made, tcp))
    return found


def statements() -> list[Entry]:
    found: list[Entry] = []
    for line in _STATEMENTS.strip().splitlines():
        name, families, chain, rules = line.split(maxsplit=3)
        for family in map(int, families):
            port, tcp = 3000 + len(found), name == "synproxy"
            head = f"add rule inet words {chain} meta nfproto ipv{family} {'tcp' if tcp else 'udp'} dport {port} counter "
            words = {"f": family, "ip": "ip" if family == 4 else "ip6", "one": "10.77.0.5" if family == 4 else "fd77::5"}
            rules_of = [head + one.format(**words) for one in rules.split(" ; ")]
            found.append(Entry(name, family, "words", "FORWARD" if chain == "through" else chain, port, rules_of, tcp))
    return found

# Copyright (c) 2026 netops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# certify.sh NAME DAYS [expired|self|intermediate]: an authority in $SHARED/ca.pem, and NAME's certificate with key and, for a
# host that does it right, the intermediate's in $SHARED/server.pem. The name may be an address.
cd "$SHARED"
kind=${3-}
key() { openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$1.key" -out "$1.csr" -subj "/CN=$1" 2>/dev/null; }
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out ca.pem -days 60 -subj /CN=authority \
  -addext keyUsage=critical,keyCertSign,cRLSign 2>/dev/null
case $1 in *[!0-9.]*) san="DNS:$1" ;; *) san="IP:$1" ;; esac
key server
printf 'subjectAltName=%s\n' "$san" >server.ext
printf 'basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\n' >middle.ext
issuer=ca
if [ "$kind" = intermediate ]; then
  key middle
  openssl x509 -req -in middle.csr -CA ca.pem -CAkey ca.key -days 50 -extfile middle.ext -out middle.pem 2>/dev/null
  issuer=middle
fi
case $kind in
expired)
  touch index; echo 01 >serial
  printf '[ca]\ndefault_ca=it\n[it]\ndatabase=index\nserial=serial\nnew_certs_dir=.\ndefault_md=sha256\npolicy=any\n[any]\ncommonName=supplied\n' >ca.cnf
  openssl ca -batch -config ca.cnf -cert ca.pem -keyfile ca.key -in server.csr -extfile server.ext -startdate 20200101000000Z \
    -enddate 20210101000000Z -out leaf.pem 2>/dev/null
  ;;
self) openssl x509 -req -in server.csr -signkey server.key -days "$2" -extfile server.ext -out leaf.pem 2>/dev/null ;;
*) openssl x509 -req -in server.csr -CA $issuer.pem -CAkey $issuer.key -days "$2" -extfile server.ext -out leaf.pem 2>/dev/null ;;
esac
cat leaf.pem server.key >server.pem
[ "$kind" != intermediate ] || cat leaf.pem middle.pem server.key >full.pem

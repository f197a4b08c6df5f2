# The index is built once and kept in its volume; remove the volume to build it anew.
if [ ! -s /index/passages ]; then
    echo "indexing /documents"
    for file in /documents/*.txt; do
        sed -n "s|..*|${file##*/}	&|p" "$file"
    done >/index/passages.new
    mv /index/passages.new /index/passages
fi
echo "$(wc -l </index/passages) passages"
exec demo-http 6333 /app/api.sh

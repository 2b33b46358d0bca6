"""Small raw files in every format that is read."""

from __future__ import annotations

from pathlib import Path

RAW = {
    "user_artists.dat": "userID\tartistID\tweight\n1\t10\t3\n2\t11\t5\n",
    "item_index2entity_id.txt": "10\t0\n11\t1\n",
    "kg.txt": "0\tgenre\t7\n1\tgenre\t7\n",
}
FINAL = {
    "ratings_final.txt": "0\t0\t1\n0\t1\t0\n1\t1\t1\n",
    "kg_final.txt": "0\t0\t2\n1\t0\t2\n",
}
RECBOLE = {
    "ml.inter": "user_id:token\titem_id:token\trating:float\ttimestamp:float\nu\ti\t4\t9\n",
    "ml.link": "item_id:token\tentity_id:token\ni\tm.1\n",
    "ml.kg": "head_id:token\trelation_id:token\ttail_id:token\nm.1\tr\tm.2\n",
    "ml.item": "item_id:token\tmovie_title:token_seq\tyear:token\ni\tToy Story\t1995\n",
}
BOOK = {
    "BX-Book-Ratings.csv": '"User-ID";"ISBN";"Book-Rating"\n'
    '"1";"a;b\\"c";"0"\n"2";"b"\n"3";"ü";"7"\n',
    "item_index2entity_id_rehashed.txt": "ü\t5\n",
    "kg_rehashed.txt": "5\tr\t6\n",
}

GIVEN = {
    "ml.train.inter": "user_id:token\titem_id:token\nu\ti\nv\tj\n",
    "ml.valid.inter": "user_id:token\titem_id:token\nu\tj\n",
    "ml.test.inter": "user_id:token\titem_id:token\nv\ti\n",
    "ml.link": "item_id:token\tentity_id:token\ni\tm.1\nj\tm.2\n",
    "ml.kg": RECBOLE["ml.kg"],
}
MOVIELENS = {
    "ratings.csv": "userId,movieId,rating,timestamp\n1,10,3.5,1112486027\n2,11,4,1112484676\n",
    "movies.csv": 'movieId,title,genres\n10,"Seven, or ""Se7en""",Crime\n11,Heat,Action\n',
    "item_index2entity_id.txt": RAW["item_index2entity_id.txt"],
    "kg.txt": RAW["kg.txt"],
}
KGAT = {
    "train.txt": "0 0 1\n1 1\n2\n",
    "test.txt": "0 2\n1 0\n",
    "kg_final.txt": "0 0 3\n1 1 3\n2 0 1\n",
    "user_list.txt": "org_id remap_id\nann 0\nbob 1\ncid 2\n",
    "item_list.txt": "org_id remap_id freebase_id\nx 0 m.x\ny y 1 m.y\nz 2 m.z\n",
    "entity_list.txt": "org_id remap_id\nm.x 0\nm.y 1\nm.z 2\nm.rock 3\n",
    "relation_list.txt": "org_id remap_id\ngenre 0\nlike 1\n",
}
CSV = {
    "interactions.csv": 'userId,itemId,rating,date,note\n1,"a,b",4,2020-01-02,"x\ny"\n'
    "2,c,3.5,2020-01-03,\n",
    "triples.csv": 'head,relation,tail\ne1,genre,"rock ""n"" roll"\ne2,genre,e1\n',
    "links.csv": 'item,entity\n"a,b",e1\nc,e2\n',
    "items.csv": 'item,title\n"a,b",Alpha\nc,\n',
}


def write(folder: Path, files: dict[str, str]) -> Path:
    """Writes files into a folder, made if need be."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_bytes(text.encode())
    return folder

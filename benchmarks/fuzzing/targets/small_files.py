"""Small folders in every file format."""

from __future__ import annotations

import io
from collections.abc import Mapping
from functools import cache

import polars as pl

from fuzzing.mutations import Files

RAW = {
    "user_artists.dat": "userID\tartistID\tweight\n1\t10\t3\n2\t11\t5\n2\t10\t1\n",
    "item_index2entity_id.txt": "10\t0\n11\t1\n",
    "kg.txt": "0\tgenre\t7\n1\tgenre\t7\n",
}
MOVIELENS = {
    "ratings.csv": "userId,movieId,rating,timestamp\n1,10,3.5,1112486027\n2,11,4,1112484676\n",
    "movies.csv": 'movieId,title,genres\n10,"Seven, or ""Se7en""",Crime\n11,Heat,Action\n',
    "item_index2entity_id.txt": RAW["item_index2entity_id.txt"],
    "kg.txt": RAW["kg.txt"],
}
BOOK = {
    "BX-Book-Ratings.csv": '"User-ID";"ISBN";"Book-Rating"\n"1";"a;b\\"c";"0"\n"2";"b"\n'
    '"3";"ü";"7"\n',
    "item_index2entity_id_rehashed.txt": "ü\t5\nb\t6\n",
    "kg_rehashed.txt": "5\tr\t6\n",
}
FINAL = {
    "ratings_final.txt": "0\t0\t1\n0\t1\t0\n1\t1\t1\n",
    "kg_final.txt": "0\t0\t2\n1\t0\t2\n",
    "item_index2entity_id.txt": "a\t0\nb\t1\nc\t2\n",
}
RECBOLE = {
    "ml.inter": "user_id:token\titem_id:token\trating:float\ttimestamp:float\nu\ti\t4\t9\n"
    "v\tj\t3\t8\n",
    "ml.link": "item_id:token\tentity_id:token\ni\tm.1\nj\tm.2\n",
    "ml.kg": "head_id:token\trelation_id:token\ttail_id:token\nm.1\tr\tm.2\n",
    "ml.item": "item_id:token\tmovie_title:token_seq\tyear:token\ni\tToy Story\t1995\n",
    "ml.user": "user_id:token\tage:token\tjobs:token_seq\nu\t24\tcook poet\n",
}
GIVEN = {
    "ml.train.inter": "user_id:token\titem_id:token\tlabel:float\nu\ti\t1\nv\tj\t1\nu\tj\t0\n",
    "ml.valid.inter": "user_id:token\titem_id:token\tlabel:float\nu\tj\t1\n",
    "ml.test.inter": "user_id:token\titem_id:token\tlabel:float\nv\ti\t1\n",
    "ml.link": RECBOLE["ml.link"],
    "ml.kg": RECBOLE["ml.kg"],
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
    "interactions.csv": "userId,itemId,rating,date,weight,note\n"
    '1,"a,b",4,2020-01-02,2,"x\ny"\n2,c,3.5,2020-01-03,1,\n1,c,1,2021-01-03,3,z\n',
    "triples.csv": 'head,relation,tail\ne1,genre,"rock ""n"" roll"\ne2,genre,e1\n',
    "links.csv": 'item,entity\n"a,b",e1\nc,e2\n',
    "items.csv": 'item,title,text\n"a,b",Alpha,"long, text"\nc,,\n',
    "entities.csv": "entity,name\ne1,One\ne2,\n",
    "relations.csv": "relation,name\ngenre,has genre\n",
    "users.csv": "user,age,city\n1,30,Rome\n2,,Oslo\n",
    "user_attributes.csv": "user,relation,entity\n1,age,30\n2,city,Oslo\n",
    "user_links.csv": "user,other\n1,2\n",
}
SPLIT = {
    "interactions.csv": "user,item,label,split\n1,a,1,train\n1,b,0,train\n2,b,1,test\n2,a,1,val\n"
    "1,c,1,test\n",
    "kg.tsv": "a\tgenre\tx\nb\tgenre\tx\nc\tgenre\ty\n",  # without a header
}
PARTS = {
    "train.tsv": "user\titem\trating\n1\ta\t4\n2\tb\t3\n1\tc\t5\n",
    "test.tsv": "user\titem\trating\n2\ta\t5\n",
    "triples.tsv": "h|r|t\n".replace("|", "\t") + "a\tgenre\tx\nb\tgenre\tx\n",
}


def encoded(*folders: Mapping[str, str]) -> list[Files]:
    """Folders of texts as bytes."""
    return [{name: text.encode() for name, text in folder.items()} for folder in folders]


@cache
def parquet_folders() -> list[Files]:
    """The folders in CSV as Parquet, with numbers and dates as such, and lists of users."""
    folders = []
    for folder in (CSV, SPLIT, PARTS):
        files: Files = {}
        for name, text in folder.items():
            stem, _, end = name.rpartition(".")
            separator = "," if end == "csv" else "\t"
            header = stem != "kg"
            frame = pl.read_csv(
                text.encode(), separator=separator, has_header=header, try_parse_dates=True
            )
            if not header:
                frame.columns = ["head", "relation", "tail"]
            if stem == "users":
                frame = frame.with_columns(likes=pl.Series([["a", "b"], None]))
            frame.write_parquet(buffer := io.BytesIO())
            files[f"{stem}.parquet"] = buffer.getvalue()
        folders.append(files)
    return folders
